-- Sets when keys of clients were last used, unless that is later already: ids, each followed by a time.
for place = 1, #ARGV, 2 do
  local last = redis.call('HGET', client_key(ARGV[place]), 'last_used_at')
  if last and (last == '' or tonumber(last) < tonumber(ARGV[place + 1])) then
    redis.call('HSET', client_key(ARGV[place]), 'last_used_at', ARGV[place + 1])
  end
end
return nil
