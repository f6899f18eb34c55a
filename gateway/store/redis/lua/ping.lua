-- Proves that there can be written and read.
redis.call('SET', P .. 'ping', ARGV[1])
return redis.call('GET', P .. 'ping')
