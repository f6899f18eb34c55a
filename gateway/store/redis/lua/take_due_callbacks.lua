-- Returns due callbacks with the sizes of their bodies, longest due first, and sets their next due time.
local now_at, until_at, limit = slice(1, 3)
local deliveries = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', now_at, 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', run_key(id)) == 1 then
    redis.call('ZADD', P .. 'due', until_at, id)
    local size = redis.call('HSTRLEN', run_key(id), 'callback_body')
    table.insert(deliveries, {redis.call('HMGET', run_key(id), unpack(DELIVERY)), size})
  else
    redis.call('ZREM', P .. 'due', id)
  end
end
return deliveries
