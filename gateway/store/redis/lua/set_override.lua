-- Sets the override of a provider.
local generation, provider, override = slice(1, 3)
local replaced = generation_error(generation)
if replaced then return replaced end
redis.call('HSET', P .. 'overrides', provider, override)
return nil
