-- Adds a key of a client, unless there are as many as there may be.
local generation, id, client, most, ended_at, digest, previous = slice(1, 7)
local replaced = generation_error(generation)
if replaced then return replaced end
if redis.call('ZCARD', P .. 'client_keys') >= tonumber(most) then return 0 end
local revision = next_revision()
put_client_key(id, revision, ended_at, digest, previous, 8)
redis.call('HSET', client_key(id), 'number', revision)
redis.call('ZADD', P .. 'client_keys', revision, id)
redis.call('ZADD', P .. 'client_keys_of:' .. client, revision, id)
return 1
