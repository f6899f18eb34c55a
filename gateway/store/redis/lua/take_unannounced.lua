-- Takes up to `limit` of the ids that were neither announced nor taken, and returns them.
local limit, now, taken_until, kept_until = slice(1, 4)
local taken, announced, new = P .. 'announcing', P .. 'announced', {}
redis.call('ZREMRANGEBYSCORE', taken, '-inf', now)
redis.call('ZREMRANGEBYSCORE', announced, '-inf', now)
for place = 5, #ARGV do
  local id = ARGV[place]
  if redis.call('ZSCORE', announced, id) then
    redis.call('ZADD', announced, kept_until, id)
  elseif #new < tonumber(limit) and not redis.call('ZSCORE', taken, id) then
    redis.call('ZADD', taken, taken_until, id)
    new[#new + 1] = id
  end
end
return new
