-- Returns ids of runs with this callback state, after an id.
local state, after, limit = slice(1, 3)
return redis.call('ZRANGEBYLEX', P .. 'callbacks:' .. state, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
