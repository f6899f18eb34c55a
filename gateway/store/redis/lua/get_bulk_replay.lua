-- Returns the fields of a bulk replay: names, each followed by its value.
return redis.call('HGETALL', P .. 'bulk_replay:' .. ARGV[1])
