-- Charges what was taken while the server was unavailable. ARGV: for each key its kind and four numbers: the two of the counter,
-- the usage known before the loss (the server may have lost it), and the requests taken since. A rate is charged up to its
-- whole burst. Returns the usage of each, as `acquire`.
local charge = {}

function charge.rate(key, interval, tolerance, known, taken)
  local full_at = math.max(tonumber(redis.call('GET', key) or now), now + known)
  full_at = math.min(full_at + taken * interval, now + tolerance + interval)
  keep(key, text(full_at), full_at - now)
  return text(full_at - now)
end

function charge.daily(key, _, _, known, taken)
  local kept = redis.call('HMGET', key, 'used', 'ends')
  local used, ends = tonumber(kept[1] or 0), tonumber(kept[2])
  if not ends or now + TIME_EPSILON >= ends then used, ends = 0, now + DAY - wall end
  used = math.max(used, known) + taken
  redis.call('HSET', key, 'used', used, 'ends', text(ends))
  redis.call('EXPIRE', key, math.ceil(ends - now) + MAX_CLOCK_STEP)
  return used .. ' ' .. text(ends - now)
end

local reply = {}
for i, key in ipairs(KEYS) do
  local at = 5 * i - 2
  local numbers = {}
  for j = 1, 4 do numbers[j] = tonumber(ARGV[at + j]) end
  reply[i] = charge[ARGV[at]](key, unpack(numbers))
end
return reply
