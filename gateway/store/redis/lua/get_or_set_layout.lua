-- The version of the layout; the one that is handed in, where there was none.
redis.call('SET', P .. 'layout', ARGV[1], 'NX')
return redis.call('GET', P .. 'layout')
