-- What every script of the limits begins with. ARGV: now and the wall clock in seconds ('': the server's TIME), then its own.
local now, wall = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] - 1767225600 + time[2] / 1000000 -- since 2026: a float of so few digits is exact to some nanoseconds
  wall = time[1] % 86400 + time[2] / 1000000
end
local TIME_EPSILON, DAY, MAX_CLOCK_STEP = 0.000001, 86400, 7200 -- as gateway/limits/gcra.py and daily_quota.py have them

local function text(number) return string.format('%.17g', number) end

-- A set of leases without those that have run out. None ends later than it may: else the clock was set back.
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
