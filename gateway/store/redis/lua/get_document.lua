-- Returns the document of a run; nil if it has not ended or does not exist.
return redis.call('HGET', run_key(ARGV[1]), 'document')
