-- Deletes the bulk replays whose `delete_at` is before a time.
local old = redis.call('ZRANGEBYSCORE', P .. 'bulk_replays', '-inf', '(' .. ARGV[1], 'LIMIT', 0, 100)
for _, id in ipairs(old) do
  redis.call('UNLINK', P .. 'bulk_replay:' .. id)
  redis.call('ZREM', P .. 'bulk_replays', id)
end
return #old
