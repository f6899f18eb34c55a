-- Sets the final state of a pending callback; a settled callback stays as it is.
local id, state = slice(1, 2)
if redis.call('ZREM', P .. 'due', id) == 0 then return nil end
call_back(id, state)
redis.call('ZADD', P .. 'ended', redis.call('HGET', run_key(id), 'finished_at'), id)
changed(id)
return nil
