-- Returns 1, or 0 if the stored phase is later, the owner is another one, or the run does not exist.
local id, owner, phase = slice(1, 3)
local kept = redis.call('HMGET', run_key(id), 'owner', 'phase')
if kept[1] ~= owner or tonumber(kept[2]) > tonumber(phase) then return 0 end
redis.call('HDEL', run_key(id), 'provider_run_id')
redis.call('HSET', run_key(id), 'phase', phase, slice(4, #ARGV - 3))
changed(id)
return 1
