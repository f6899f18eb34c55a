-- Deletes a batch of recorded runs that are old, or more than `kept`; returns their number.
local before, kept, most = slice(1, 3)
local ids = redis.call('ZRANGEBYSCORE', P .. 'recorded', '-inf', '(' .. before, 'LIMIT', 0, most)
local surplus = math.min(redis.call('ZCARD', P .. 'recorded') - kept, most)
if surplus > #ids then ids = redis.call('ZRANGE', P .. 'recorded', 0, surplus - 1) end
for _, id in ipairs(ids) do
  redis.call('ZREM', P .. 'recorded', id)
  redis.call('ZREM', P .. 'kept_content', id)
  delete_run(id)
end
return #ids
