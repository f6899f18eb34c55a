-- Adds usage of runs without records, unless the writer's batch with this or a later number was added. The arguments: the
-- writer, the number, the seconds for which a repetition is recognized, and seven for each row.
local writer, number, seconds = slice(1, 3)
local name = P .. 'usage_writer:' .. writer
if tonumber(redis.call('GET', name) or -1) >= tonumber(number) then return 0 end
redis.call('SET', name, number, 'EX', seconds)
for place = 4, #ARGV, 7 do add_usage(slice(place, 7)) end
return 1
