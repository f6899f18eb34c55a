-- Examines some runs of a list. Adds them to the lists that they are missing from; removes them from this one if they do not
-- exist, or if it is `unfinished` and they have ended. Returns the cursor to continue with, 0 at the end.
local list, cursor = slice(1, 2)
local page = redis.call('ZSCAN', P .. list, cursor, 'COUNT', 200)
for place = 1, #page[2], 2 do
  local id = page[2][place]
  local kept = redis.call('HMGET', run_key(id), 'client', 'created_at', 'status', 'tags')
  if not kept[1] or (list == 'unfinished' and status_key(kept[3]) ~= P .. list) then
    redis.call('ZREM', P .. list, id)
  elseif list ~= 'runs:' and list ~= 'unfinished' then
    enter_lists(id, unpack(kept, 1, 4))
  end
end
return page[1]
