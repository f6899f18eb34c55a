-- Removes the override of a provider.
local generation, provider = slice(1, 2)
local replaced = generation_error(generation)
if replaced then return replaced end
redis.call('HDEL', P .. 'overrides', provider)
return nil
