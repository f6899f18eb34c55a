-- Sets fields of a key of a client if it has this revision.
local generation, id, revision, ended_at, digest, previous = slice(1, 6)
local replaced = generation_error(generation)
if replaced then return replaced end
if redis.call('HGET', client_key(id), 'revision') ~= revision then return 0 end
forget_digests(id)
put_client_key(id, next_revision(), ended_at, digest, previous, 7)
return 1
