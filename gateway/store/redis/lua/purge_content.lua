-- Deletes the content of a batch of recorded runs that was kept until before a time; returns their number.
local before, most = slice(1, 2)
local ids = redis.call('ZRANGEBYSCORE', P .. 'kept_content', '-inf', '(' .. before, 'LIMIT', 0, most)
for _, id in ipairs(ids) do
  redis.call('ZREM', P .. 'kept_content', id)
  redis.call('HDEL', run_key(id), 'order', 'document')
end
return #ids
