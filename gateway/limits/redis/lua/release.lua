-- Gives counters of a run back. ARGV: slot, lease; then kind and a number for each key: slots are freed; of a rate (by
-- its interval) and a daily quota one charge is refunded. Returns the usage of each, as `acquire`; '' if it is not needed.
local slot, lease = ARGV[3], tonumber(ARGV[4])

local back = {}

function back.slots(key)
  redis.call('ZREM', key, slot)
  tidy(key, lease)
  return tostring(redis.call('ZCARD', key))
end

function back.rate(key, interval)
  local full_at = redis.call('GET', key)
  if not full_at then return '' end
  full_at = full_at - interval
  keep(key, text(full_at), full_at - now)
  return text(full_at - now)
end

function back.daily(key)
  local used = tonumber(redis.call('HGET', key, 'used') or 0)
  if used > 0 then redis.call('HINCRBY', key, 'used', -1) end
  return ''
end

local reply = {}
for i, key in ipairs(KEYS) do
  reply[i] = back[ARGV[3 + 2 * i]](key, tonumber(ARGV[4 + 2 * i]))
end
return reply
