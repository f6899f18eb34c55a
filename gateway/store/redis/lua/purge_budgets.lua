-- Deletes up to 100 accounts whose window ended before a time, and as many settled reservations.
-- Returns the number of accounts, and that of the reservations that are left.
local before = '(' .. ARGV[1]
for _, run in ipairs(redis.call('ZRANGEBYSCORE', P .. 'settled', '-inf', before, 'LIMIT', 0, 100)) do
  redis.call('UNLINK', P .. 'reservation:' .. run)
  redis.call('ZREM', P .. 'settled', run)
end
local old = redis.call('ZRANGEBYSCORE', P .. 'budgets', '-inf', before, 'LIMIT', 0, 100)
for _, account in ipairs(old) do
  redis.call('UNLINK', P .. 'budget:' .. account)
  redis.call('ZREM', P .. 'budgets', account)
end
return {#old, redis.call('ZCOUNT', P .. 'settled', '-inf', before)}
