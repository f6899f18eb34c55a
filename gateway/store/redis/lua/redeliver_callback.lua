-- Makes a callback due now. Returns 1, or 0 if the run has none.
local id, now_at = slice(1, 2)
if redis.call('HEXISTS', run_key(id), 'callback_body') == 0 then return 0 end
call_back(id, 'pending')
redis.call('HSET', run_key(id), 'callback_attempts', 0)
make_due(id, now_at, now_at)
redis.call('ZREM', P .. 'ended', id)
changed(id)
return 1
