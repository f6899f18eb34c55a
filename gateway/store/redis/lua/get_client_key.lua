-- Returns the values of the fields that are named, of one key of a client.
local id = ARGV[1]
if redis.call('EXISTS', client_key(id)) == 0 then return {} end
return client_key_rows({id}, 2)
