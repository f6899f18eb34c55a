-- Deletes the usage of a batch of days before one; returns the number of their rows.
local deleted = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'usage', '-inf', '(' .. ARGV[1], 'LIMIT', 0, 50)) do
  deleted = deleted + tonumber(redis.call('HGET', P .. 'usage:' .. name, 'rows') or 1)
  redis.call('UNLINK', P .. 'usage:' .. name)
  redis.call('ZREM', P .. 'usage', name)
end
return deleted
