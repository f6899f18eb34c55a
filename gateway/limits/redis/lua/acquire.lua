-- Takes every counter of a request, or none. ARGV: mode, slot, replica, lease; then kind and two numbers for each key.
-- `mode` is take, peek (take nothing), or reserve (take; else the next free slot is reserved for this replica for 150 ms).
-- Returns 1 if all were taken, else 0; then the current usage of each counter.
local mode, slot, replica, lease = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local RESERVED = 150 -- milliseconds

local bucket = {}

-- Rate (GCRA). Usage: seconds until the whole burst is available again. After a step of the clock backwards, or a
-- smaller rate, at most the whole burst is used up.
function bucket.rate(key, interval, tolerance)
  local full_at, latest = tonumber(redis.call('GET', key) or now), now + tolerance + interval
  if full_at > latest + TIME_EPSILON then
    full_at = latest
    keep(key, text(full_at), full_at - now)
  end
  local closed = now < full_at - tolerance
  local function take()
    full_at = math.max(full_at, now) + interval
    keep(key, text(full_at), full_at - now)
  end
  local function used()
    local ahead = full_at - now
    return text(closed and math.max(ahead, tolerance + TIME_EPSILON / 10) or ahead)
  end
  return closed, take, used
end

-- Daily quota. Usage: requests of this UTC day, and the seconds until it ends, as DailyQuota.
function bucket.daily(key, limit)
  local kept = redis.call('HMGET', key, 'used', 'ends')
  local used, ends = tonumber(kept[1] or 0), tonumber(kept[2])
  if ends and ends - now > DAY + MAX_CLOCK_STEP then -- the clock was set back
    ends = now + DAY - wall
    redis.call('HSET', key, 'ends', text(ends))
  end
  if not ends or now + TIME_EPSILON >= ends then
    local length = DAY - wall
    if ends and length < MAX_CLOCK_STEP and now - ends < MAX_CLOCK_STEP then length = length + DAY end
    used, ends = 0, now + length
  end
  local function take()
    used = used + 1
    redis.call('HSET', key, 'used', used, 'ends', text(ends))
    redis.call('EXPIRE', key, math.ceil(math.max(ends - now, 0)) + MAX_CLOCK_STEP)
  end
  return used >= limit, take, function() return used .. ' ' .. text(ends - now) end
end

-- Slots. Usage: slots in use. With `fair` = 1 requests wait for a slot, so replicas are served alternately.
function bucket.slots(key, capacity, fair)
  tidy(key, lease)
  local count, turn = redis.call('ZCARD', key), fair == 1 and redis.call('GET', key .. ':turn')
  local full, kept = count >= capacity, 0
  if turn and turn ~= replica then kept = 1 end
  local function take()
    if turn == replica then redis.call('DEL', key .. ':turn') end
    lease_to(key, slot, lease)
    count = count + 1
  end
  local function used()
    if full and fair == 1 and mode == 'reserve' and not turn then
      redis.call('SET', key .. ':turn', replica, 'NX', 'PX', RESERVED)
    end
    if count + kept >= capacity then return tostring(math.max(count, capacity)) end
    return tostring(count)
  end
  return count + kept >= capacity, take, used
end

local open, buckets = true, {}
for i, key in ipairs(KEYS) do
  local at = 4 + 3 * i
  local closed, take, used = bucket[ARGV[at]](key, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
  open = open and not closed
  buckets[i] = {take = take, used = used}
end

local taken = open and mode ~= 'peek'
local reply = {taken and 1 or 0}
for i, one in ipairs(buckets) do
  if taken then one.take() end
  reply[i + 1] = one.used()
end
return reply
