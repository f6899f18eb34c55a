-- Records ended runs that were not durable; those with an id that exists are left out. Each is the id, the client, the times
-- of its creation and its end, its status, its tags, the time until which its content is kept or '', the number of arguments
-- that are its fields, and these.
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

local place = 1
while place <= #ARGV do
  local id, client, created_at, finished_at, status, tags, kept_until, count = slice(place, 8)
  if redis.call('EXISTS', run_key(id)) == 0 then
    redis.call('HSET', run_key(id), slice(place + 8, count))
    enter(P .. 'recorded', finished_at, id)
    if kept_until ~= '' then enter(P .. 'kept_content', kept_until, id) end
    for _, list in ipairs(lists_of(client, status, tags)) do enter(list, created_at, id) end
  end
  place = place + 8 + count
end
for list, entries in pairs(additions) do redis.call('ZADD', list, unpack(entries)) end
return nil
