-- Records ended runs that were not durable; those with an id that exists are left out. In front: the number of the usages that
-- runs have, and these; the number of the rows of their sum, and seven arguments for each of these. Then each run: the id, the
-- client, the times of its creation and its end, its status, its tags, the time until which its content is kept or '', the place
-- of its usage or 0, the number of arguments that are its fields, and these.
local additions = {} -- by list, alternating scores and ids
local function enter(list, score, id)
  local entries = additions[list]
  if not entries then
    entries = {}
    additions[list] = entries
  end
  entries[#entries + 1] = score
  entries[#entries + 1] = id
end

local usages = tonumber(ARGV[1])
local first_row = 3 + usages
local after_rows = first_row + 7 * ARGV[2 + usages]
local place, added, all_new = after_rows, {}, true
while place <= #ARGV do
  local id, client, created_at, finished_at, status, tags, kept_until, usage, count = slice(place, 9)
  if redis.call('EXISTS', run_key(id)) == 0 then
    redis.call('HSET', run_key(id), slice(place + 9, count))
    enter(P .. 'recorded', finished_at, id)
    if kept_until ~= '' then enter(P .. 'kept_content', kept_until, id) end
    for _, list in ipairs(lists_of(client, status, tags)) do enter(list, created_at, id) end
    if usage ~= '0' then added[#added + 1] = {id, status, ARGV[1 + usage]} end
  else
    all_new = false
  end
  place = place + 9 + count
end
for _, run in ipairs(added) do
  if not all_new then count_usage(unpack(run))
  elseif run[2] == 'unknown' then redis.call('HSET', run_key(run[1]), 'usage', run[3]) end
end
if all_new then for row = first_row, after_rows - 1, 7 do add_usage(slice(row, 7)) end end
for list, entries in pairs(additions) do redis.call('ZADD', list, unpack(entries)) end
return nil
