-- Marks ids as announced.
local kept_until = slice(1, 1)
for place = 2, #ARGV do
  redis.call('ZREM', P .. 'announcing', ARGV[place])
  redis.call('ZADD', P .. 'announced', kept_until, ARGV[place])
end
return nil
