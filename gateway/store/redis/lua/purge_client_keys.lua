-- Deletes keys of clients that ended before a time.
local old = redis.call('ZRANGEBYSCORE', P .. 'client_keys_ended', '-inf', '(' .. ARGV[1], 'LIMIT', 0, 100)
for _, id in ipairs(old) do
  forget_digests(id)
  redis.call('ZREM', P .. 'client_keys_of:' .. (redis.call('HGET', client_key(id), 'client') or ''), id)
  for _, list in ipairs({'client_keys', 'client_keys_changed', 'client_keys_ended'}) do
    redis.call('ZREM', P .. list, id)
  end
  redis.call('UNLINK', client_key(id))
end
return #old
