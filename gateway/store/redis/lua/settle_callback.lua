-- Sets the final state of a pending callback; a settled callback, or one of another revision, stays as it is.
local id, state, revision, events = slice(1, 4)
if not is_revision(id, revision) then return nil end
if redis.call('ZREM', P .. 'due', id) == 0 then return nil end
redis.call('ZREM', P .. 'written', id)
call_back(id, state)
add_events(id, events)
redis.call('ZADD', P .. 'ended', redis.call('HGET', run_key(id), 'finished_at'), id)
changed(id)
return nil
