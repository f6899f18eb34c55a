-- Returns the values of the fields that are named, of keys of clients that end in a time, those that end first at first.
local from_at, until_at, limit = slice(1, 3)
return client_key_rows(redis.call('ZRANGEBYSCORE', P .. 'client_keys_ended', from_at, until_at, 'LIMIT', 0, limit), 4)
