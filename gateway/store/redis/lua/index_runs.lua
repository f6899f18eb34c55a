-- Adds some runs of a list to the lists that they are missing from, and removes them from those where they do not belong.
-- Returns the cursor to continue with, 0 at the end.
local list, cursor = slice(1, 2)
local page = redis.call('ZSCAN', P .. list, cursor, 'COUNT', 500)
for place = 1, #page[2], 2 do
  local id = page[2][place]
  local kept = redis.call('HMGET', run_key(id), 'client', 'created_at', 'status', 'tags')
  if not kept[1] then
    redis.call('ZREM', P .. list, id)
  else
    enter_lists(id, unpack(kept, 1, 4))
    if list == 'unfinished' and status_key(kept[3]) ~= P .. list then redis.call('ZREM', P .. list, id) end
  end
end
return page[1]
