-- Returns the fields of an idempotency record.
return redis.call('HMGET', P .. 'claim:' .. ARGV[1], unpack(CLAIM))
