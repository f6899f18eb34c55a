-- What is known of a claim.
return redis.call('HMGET', P .. 'claim:' .. ARGV[1], unpack(CLAIM))
