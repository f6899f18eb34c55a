-- Checks that the server can write and read.
local generation, value = slice(1, 2)
local replaced = generation_error(generation)
if replaced then return replaced end
redis.call('SET', P .. 'ping', value)
return redis.call('GET', P .. 'ping')
