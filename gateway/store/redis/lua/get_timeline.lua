-- Returns the timeline of a run, empty if it has none; nil if the run does not exist.
local kept = redis.call('HMGET', run_key(ARGV[1]), 'id', 'timeline')
return kept[1] and (kept[2] or '')
