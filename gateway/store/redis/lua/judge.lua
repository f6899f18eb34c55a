-- Sets the judgement on a run that ended as `unknown`. Returns 1, or 0 for any other run.
local id, judgement = slice(1, 2)
local kept = redis.call('HMGET', run_key(id), 'phase', 'status', 'created_at')
if kept[1] ~= '3' or kept[2] ~= 'unknown' then return 0 end
redis.call('HSET', run_key(id), 'judgement', judgement)
redis.call('ZADD', P .. 'judged', kept[3], id)
return 1
