-- Prelude of every script of the limits. ARGV: now and the wall clock in seconds ('': the server's TIME), then its own.
local now, wall = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] - 1767225600 + time[2] / 1000000 -- since 2026: so small a number is exact to nanoseconds
  wall = time[1] % 86400 + time[2] / 1000000
end
local TIME_EPSILON, DAY, MAX_CLOCK_STEP = 0.000001, 86400, 7200 -- as in gateway/limits/gcra.py and daily_quota.py

local function text(number) return string.format('%.17g', number) end

-- Removes expired leases. A lease beyond its maximum (the clock was set back) is shortened to it.
local function tidy(key, lease)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. text(now + lease + 1), '+inf')) do
    redis.call('ZADD', key, text(now + lease), id)
  end
end

local function lease_to(key, id, lease)
  redis.call('ZADD', key, text(now + lease), id)
  redis.call('EXPIRE', key, math.ceil(lease * 2) + 60)
end

local function keep(key, value, seconds)
  redis.call('SET', key, value, 'EX', math.ceil(math.max(seconds, 0)) + 60)
end
