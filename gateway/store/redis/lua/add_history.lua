-- Records ended runs that were not durable; those with an id that exists are left out. Each is the id, the client, the times
-- of its creation and its end, its status, its tags, the number of arguments that are its fields, and these.
local place = 1
while place <= #ARGV do
  local id, client, created_at, finished_at, status, tags, count = slice(place, 7)
  if redis.call('EXISTS', run_key(id)) == 0 then
    redis.call('HSET', run_key(id), slice(place + 7, count))
    redis.call('ZADD', P .. 'recorded', finished_at, id)
    enter_lists(id, client, created_at, status, tags)
  end
  place = place + 7 + count
end
return nil
