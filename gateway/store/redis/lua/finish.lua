-- Ends a run. Returns 1, or 0 if it has ended, the owner is another one, or it does not exist. The first six arguments
-- are followed by the fields of the run, the fields of the response, and the callback; the counts are of arguments.
local id, owner, finished_at, due_at, changes, answers = slice(1, 6)
local kept = redis.call('HMGET', run_key(id), 'owner', 'phase', 'claim', 'callback_url')
if kept[1] ~= owner or tonumber(kept[2]) == 3 then return 0 end
redis.call('HDEL', run_key(id), 'provider_run_id')
redis.call('HSET', run_key(id), 'phase', 3, slice(7, changes))
end_lease(id, owner)
local claim = claim_of(id, kept[3])
if claim and tonumber(answers) > 0 then redis.call('HSET', claim, slice(7 + changes, answers)) end
local callback = ARGV[7 + changes + answers]
if kept[4] and callback then
  call_back(id, 'pending')
  redis.call('HSET', run_key(id), 'callback_body', callback, 'callback_attempts', 0)
  redis.call('ZADD', P .. 'due', due_at, id)
else
  redis.call('ZADD', P .. 'ended', finished_at, id)
end
changed(id)
return 1
