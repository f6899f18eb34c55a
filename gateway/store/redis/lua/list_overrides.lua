-- Returns the names of providers, each followed by its override.
local generation = slice(1, 1)
local replaced = generation_error(generation)
if replaced then return replaced end
return redis.call('HGETALL', P .. 'overrides')
