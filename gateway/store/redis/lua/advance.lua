-- Returns 1, or 0 if the stored phase is later, the owner is another one, or the run does not exist.
local id, owner, phase, status, events = slice(1, 5)
local kept = redis.call('HMGET', run_key(id), 'owner', 'phase', 'status', 'created_at')
if kept[1] ~= owner or tonumber(kept[2]) > tonumber(phase) then return 0 end
redis.call('HDEL', run_key(id), 'provider_run_id')
redis.call('HSET', run_key(id), 'phase', phase, slice(6, #ARGV - 5))
move_status(id, kept[3], status, kept[4])
add_events(id, events)
changed(id)
return 1
