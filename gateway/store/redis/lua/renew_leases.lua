-- Sets the end of the leases of some runs of an owner. Returns the id to continue after, or nil at the end.
local generation, owner, until_at, after = slice(1, 4)
local replaced = generation_error(generation)
if replaced then return replaced end
local ids = redis.call('ZRANGEBYLEX', P .. 'owned:' .. owner, after, '+', 'LIMIT', 0, 500)
for _, id in ipairs(ids) do
  if redis.call('EXISTS', run_key(id)) == 1 then
    redis.call('HSET', run_key(id), 'leased_until_at', until_at)
    redis.call('ZADD', P .. 'leases', until_at, id)
  end
end
return #ids == 500 and ids[500] or nil
