-- Returns the newest revision, and the values of the fields that are named, of keys that were changed after a revision.
local generation, after, limit = slice(1, 3)
local replaced = generation_error(generation)
if replaced then return replaced end
local ids = redis.call('ZRANGEBYSCORE', P .. 'client_keys_changed', '(' .. after, '+inf', 'LIMIT', 0, limit)
return {redis.call('GET', P .. 'client_key_revision') or '0', client_key_rows(ids, 4)}
