-- Returns the values of the fields that are named, of the key of a client with this digest.
local id = redis.call('HGET', P .. 'client_key_digests', ARGV[1])
if not id then return {} end
return client_key_rows({id}, 2)
