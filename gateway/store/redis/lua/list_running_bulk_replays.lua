-- Returns the values of the fields that are named, for each bulk replay that is running.
local found = {}
for _, id in ipairs(redis.call('ZRANGE', P .. 'bulk_replays', 0, -1)) do
  local key = P .. 'bulk_replay:' .. id
  if redis.call('HGET', key, 'state') == 'running' then
    found[#found + 1] = redis.call('HMGET', key, unpack(ARGV))
  end
end
return found
