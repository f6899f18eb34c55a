-- Adds a bulk replay, unless there is one with this id.
local generation, id, delete_at = slice(1, 3)
local replaced = generation_error(generation)
if replaced then return replaced end
local key = P .. 'bulk_replay:' .. id
if redis.call('EXISTS', key) == 1 then return 0 end
for place = 4, #ARGV, 2 do redis.call('HSET', key, ARGV[place], ARGV[place + 1]) end
redis.call('ZADD', P .. 'bulk_replays', delete_at, id)
return 1
