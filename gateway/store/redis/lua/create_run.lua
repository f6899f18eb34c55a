-- Creates a run and its idempotency record. Returns nil, the existing record of the key, or 0 if a run has this id.
local generation, id, client, created_at, owner, until_at, claim, fingerprint, status, tags = slice(1, 10)
local replaced = generation_error(generation)
if replaced then return replaced end
if claim ~= '' then
  local there = redis.call('HMGET', P .. 'claim:' .. claim, unpack(CLAIM))
  if there[2] then return there end
end
if redis.call('EXISTS', run_key(id)) == 1 then return 0 end
redis.call('HSET', run_key(id), slice(11, #ARGV - 10))
if tags ~= '' then redis.call('HSET', run_key(id), 'tags', tags) end
enter_lists(id, client, created_at, status, tags)
lease(id, owner, until_at)
if claim ~= '' then
  redis.call('HSET', run_key(id), 'claim', claim)
  redis.call('HSET', P .. 'claim:' .. claim, 'fingerprint', fingerprint, 'run_id', id, 'created_at', created_at)
  redis.call('ZADD', P .. 'claims', created_at, claim)
end
return nil
