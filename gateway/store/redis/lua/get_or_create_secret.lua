-- Returns the secret of this name; stores the argument if there was none.
local name, fresh = slice(1, 2)
redis.call('SET', P .. 'secret:' .. name, fresh, 'NX')
return redis.call('GET', P .. 'secret:' .. name)
