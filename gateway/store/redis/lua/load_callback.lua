-- Returns the body of a callback that was taken, and sets its next due time; nil if it has changed since.
local id, revision, taken_until, until_at = slice(1, 4)
local due = redis.call('ZSCORE', P .. 'due', id)
if not due or tonumber(due) ~= tonumber(taken_until) or not is_revision(id, revision) then return nil end
redis.call('ZADD', P .. 'due', until_at, id)
return redis.call('HGET', run_key(id), 'callback_body')
