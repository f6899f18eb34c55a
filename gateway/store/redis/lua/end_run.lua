-- Returns the fields of a run that the end of it depends on.
local function kept_before_end(id)
  return redis.call('HMGET', run_key(id), 'owner', 'phase', 'status', 'created_at', 'claim', 'callback_url', 'activity')
end

-- Ends a run whose state the calling script has checked; `kept` are its fields from `kept_before_end`. The arguments from
-- the third on: the times of the end and of the callback, the status, events, the usage or '', the numbers of arguments in the
-- next two groups, the fields of the run, the fields of the response, and the callback. An earlier callback is replaced.
local function end_run(id, kept)
  local owner, _, before, created_at, claim_field, callback_url, activity = unpack(kept, 1, 7)
  local finished_at, due_at, status, events, usage, changes, answers = slice(3, 7)
  redis.call('HDEL', run_key(id), 'provider_run_id', 'details', 'activity')
  redis.call('HSET', run_key(id), 'phase', 3, slice(10, changes))
  if usage ~= '' then
    uncount_usage(id)
    count_usage(id, status, usage)
  end
  if activity then redis.call('ZREM', P .. 'active', id) end
  move_status(id, before, status, created_at)
  add_events(id, events)
  changed(id)
  if not owner then -- it is recorded in the history only
    redis.call('HDEL', run_key(id), 'document', 'order')
    redis.call('ZREM', P .. 'kept_content', id)
    redis.call('ZADD', P .. 'recorded', finished_at, id)
    return 1
  end
  end_lease(id, owner)
  local claim = claim_of(id, claim_field)
  if claim and tonumber(answers) > 0 then redis.call('HSET', claim, slice(10 + changes, answers)) end
  local callback = ARGV[10 + changes + answers]
  if callback_url and callback then
    if redis.call('HEXISTS', run_key(id), 'callback_body') == 1 then redis.call('HINCRBY', run_key(id), 'revision', 1) end
    call_back(id, 'pending')
    redis.call('HSET', run_key(id), 'callback_body', callback, 'callback_attempts', 0)
    make_due(id, due_at, finished_at)
    redis.call('ZREM', P .. 'ended', id)
  elseif not redis.call('ZSCORE', P .. 'due', id) then
    redis.call('ZADD', P .. 'ended', finished_at, id)
  end
  return 1
end
