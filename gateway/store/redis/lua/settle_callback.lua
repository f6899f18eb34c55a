-- A callback needs no more attempts; only the first word on it counts.
local id, state = slice(1, 2)
if redis.call('ZREM', P .. 'due', id) == 0 then return nil end
call_back(id, state)
redis.call('ZADD', P .. 'ended', redis.call('HGET', run_key(id), 'finished_at'), id)
changed(id)
return nil
