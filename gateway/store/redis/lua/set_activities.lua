-- Sets the activities of unfinished runs of an owner: ids, each followed by an activity.
local owner = ARGV[1]
for place = 2, #ARGV, 2 do
  local id, activity = slice(place, 2)
  local kept = redis.call('HMGET', run_key(id), 'owner', 'phase', 'created_at')
  if kept[1] == owner and kept[2] ~= '3' then
    redis.call('HSET', run_key(id), 'activity', activity)
    redis.call('ZADD', P .. 'active', kept[3], id)
    changed(id)
  end
end
return nil
