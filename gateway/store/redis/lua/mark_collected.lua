-- Marks a run as collected. Returns 1, or 0 if it was marked before or does not exist.
local id = slice(1, 1)
if redis.call('EXISTS', run_key(id)) == 0 then return 0 end
return redis.call('HSETNX', run_key(id), 'collected', 1)
