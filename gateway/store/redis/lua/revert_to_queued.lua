-- Sets SENDING back to QUEUED. Returns 1, or 0 for another phase, attempt or owner.
local id, owner, attempts = slice(1, 3)
local kept = redis.call('HMGET', run_key(id), 'owner', 'phase', 'attempts')
if kept[1] ~= owner or kept[2] ~= '1' or kept[3] ~= attempts then return 0 end
redis.call('HSET', run_key(id), 'phase', 0)
changed(id)
return 1
