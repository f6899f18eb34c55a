-- Sets the next due time of a callback. Returns 1, or 0 if none of this revision is pending.
local id, due_at, revision, events = slice(1, 4)
if not is_revision(id, revision) or not redis.call('ZSCORE', P .. 'due', id) then return 0 end
redis.call('ZADD', P .. 'due', due_at, id)
redis.call('HINCRBY', run_key(id), 'callback_attempts', 1)
add_events(id, events)
return 1
