-- Returns up to `limit` open reservations whose check is due, longest first, and sets the time of their next check. One
-- that is due later than `latest` was set by a clock that was set back since.
local now, latest, next_check, limit = slice(1, 4)
local found = redis.call('ZRANGEBYSCORE', P .. 'reservations', '-inf', now, 'LIMIT', 0, limit)
if #found < tonumber(limit) then
  local late = redis.call('ZRANGEBYSCORE', P .. 'reservations', '(' .. latest, '+inf', 'LIMIT', 0, limit - #found)
  for _, run in ipairs(late) do found[#found + 1] = run end
end
local reply = {}
for _, run in ipairs(found) do
  redis.call('ZADD', P .. 'reservations', next_check, run)
  reply[#reply + 1] = run
  reply[#reply + 1] = redis.call('HGET', P .. 'reservation:' .. run, 'expires_at')
end
return reply
