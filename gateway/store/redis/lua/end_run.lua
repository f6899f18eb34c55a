-- Ends a run whose state the calling script has checked; `owner`, `claim_field` and `callback_url` are fields of
-- the run. The arguments from the third on: the times of the end and of the callback, the numbers of arguments in the next
-- two groups, the fields of the run, the fields of the response, and the callback. An earlier callback is replaced.
local function end_run(id, owner, claim_field, callback_url)
  local finished_at, due_at, changes, answers = slice(3, 4)
  redis.call('HDEL', run_key(id), 'provider_run_id', 'details')
  redis.call('HSET', run_key(id), 'phase', 3, slice(7, changes))
  end_lease(id, owner)
  local claim = claim_of(id, claim_field)
  if claim and tonumber(answers) > 0 then redis.call('HSET', claim, slice(7 + changes, answers)) end
  local callback = ARGV[7 + changes + answers]
  if callback_url and callback then
    if redis.call('HEXISTS', run_key(id), 'callback_body') == 1 then redis.call('HINCRBY', run_key(id), 'revision', 1) end
    call_back(id, 'pending')
    redis.call('HSET', run_key(id), 'callback_body', callback, 'callback_attempts', 0)
    make_due(id, due_at, finished_at)
    redis.call('ZREM', P .. 'ended', id)
  elseif not redis.call('ZSCORE', P .. 'due', id) then
    redis.call('ZADD', P .. 'ended', finished_at, id)
  end
  changed(id)
  return 1
end
