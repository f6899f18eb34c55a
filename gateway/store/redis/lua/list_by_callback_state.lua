-- Some of the ids of runs of whose callback that became, behind one of them.
local state, after, limit = slice(1, 3)
return redis.call('ZRANGEBYLEX', P .. 'callbacks:' .. state, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
