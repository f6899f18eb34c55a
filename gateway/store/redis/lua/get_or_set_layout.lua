-- Returns the version of the layout; stores the argument if there was none.
redis.call('SET', P .. 'layout', ARGV[1], 'NX')
return redis.call('GET', P .. 'layout')
