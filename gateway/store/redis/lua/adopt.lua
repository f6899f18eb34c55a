-- Adopts runs with an expired lease. Returns their rows: first those of the same batch, then the oldest of other owners.
local owner, now_at, until_at, limit, turn = slice(1, 5)
limit = tonumber(limit)
local function older(a, b) return a.at < b.at or (a.at == b.at and smaller(a.id, b.id)) end
local function sorted(found)
  table.sort(found, older)
  return found
end

local mine, taken = {}, P .. 'taken:' .. owner .. ':' .. turn
for _, id in ipairs(redis.call('SMEMBERS', taken)) do
  local kept = redis.call('HMGET', run_key(id), 'owner', 'phase', 'turn', 'created_at')
  if kept[1] == owner and tonumber(kept[2]) < 3 and kept[3] == turn then
    table.insert(mine, {id = id, at = tonumber(kept[4])})
  end
end

local orphans, offset, ids = {}, 0, nil
repeat
  ids = redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now_at, 'LIMIT', offset, 1000)
  for _, id in ipairs(ids) do
    local kept = redis.call('HMGET', run_key(id), 'owner', 'created_at')
    if kept[1] and kept[1] ~= owner then table.insert(orphans, {id = id, at = tonumber(kept[2]), owner = kept[1]}) end
  end
  offset = offset + 1000
until #ids < 1000 or #orphans >= limit

local rows = {}
for _, found in ipairs({sorted(mine), sorted(orphans)}) do
  for _, run in ipairs(found) do
    if #rows == limit then break end
    if run.owner then end_lease(run.id, run.owner) end
    lease(run.id, owner, until_at)
    redis.call('HSET', run_key(run.id), 'owner', owner, 'leased_until_at', until_at, 'turn', turn)
    if turn ~= '0' then redis.call('SADD', taken, run.id) end
    table.insert(rows, row(run.id))
  end
end
if turn ~= '0' and #rows > 0 then redis.call('EXPIRE', taken, 86400) end
return rows
