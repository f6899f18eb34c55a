-- Checks that the server can write and read.
redis.call('SET', P .. 'ping', ARGV[1])
return redis.call('GET', P .. 'ping')
