-- Heartbeat of a replica. ARGV: replica, lease; then the slot that it holds, for each key but the first.
-- Returns the number of live replicas.
local replica, lease = ARGV[3], tonumber(ARGV[4])
for i = 2, #KEYS do
  lease_to(KEYS[i], ARGV[3 + i], lease)
end
lease_to(KEYS[1], replica, lease)
tidy(KEYS[1], lease)
return redis.call('ZCARD', KEYS[1])
