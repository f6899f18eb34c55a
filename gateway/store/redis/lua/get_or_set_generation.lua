-- Returns the generation of the store; stores the argument if there was none.
redis.call('SET', P .. 'generation', ARGV[1], 'NX')
return redis.call('GET', P .. 'generation')
