-- The secret of this name; the one that is handed in, where there was none.
local name, fresh = slice(1, 2)
redis.call('SET', P .. 'secret:' .. name, fresh, 'NX')
return redis.call('GET', P .. 'secret:' .. name)
