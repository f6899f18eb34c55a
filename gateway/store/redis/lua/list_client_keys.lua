-- Returns the values of the fields that are named, of keys of a client, or of all, the newest first.
local client, most, limit = slice(1, 3)
local list = client == '' and 'client_keys' or 'client_keys_of:' .. client
return client_key_rows(redis.call('ZREVRANGEBYSCORE', P .. list, most, '-inf', 'LIMIT', 0, limit), 4)
