-- Returns due callbacks with the sizes of their bodies, longest due first, and sets their next due time.
-- Those written after `latest_at` are due: the clock was set back since.
local now_at, until_at, latest_at, limit = slice(1, 4)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'written', '(' .. latest_at, '+inf', 'LIMIT', 0, 1000)) do
  if redis.call('ZSCORE', P .. 'due', id) then
    make_due(id, now_at, now_at)
  else
    redis.call('ZREM', P .. 'written', id)
  end
end
local deliveries = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', now_at, 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', run_key(id)) == 1 then
    make_due(id, until_at, now_at)
    local size = redis.call('HSTRLEN', run_key(id), 'callback_body')
    table.insert(deliveries, {redis.call('HMGET', run_key(id), unpack(DELIVERY)), size})
  else
    redis.call('ZREM', P .. 'due', id)
    redis.call('ZREM', P .. 'written', id)
  end
end
return deliveries
