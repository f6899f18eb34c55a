-- Sets fields of a bulk replay if it has this revision, and counts the revision up.
local generation, id, revision, delete_at = slice(1, 4)
local replaced = generation_error(generation)
if replaced then return replaced end
local key = P .. 'bulk_replay:' .. id
if redis.call('HGET', key, 'revision') ~= revision then return 0 end
for place = 5, #ARGV, 2 do redis.call('HSET', key, ARGV[place], ARGV[place + 1]) end
redis.call('HINCRBY', key, 'revision', 1)
redis.call('ZADD', P .. 'bulk_replays', delete_at, id)
return 1
