-- Adds to a row of the usage of a day; another row takes its place if it is new and there are too many. Amounts are texts,
-- since a Lua number would round them. A sum beyond 64 bits stays as it is.
local function add_usage(day, kind, key, others, runs, spent, unknown)
  local rows = P .. 'usage:' .. kind .. ':' .. day
  if redis.call('HEXISTS', rows, 'n' .. key) == 0 then
    local count = tonumber(redis.call('HGET', rows, 'rows') or 0)
    if count >= MAX_USAGE_ROWS then key = others end
    if redis.call('HEXISTS', rows, 'n' .. key) == 0 then redis.call('HSET', rows, 'rows', count + 1) end
    if count == 0 then redis.call('ZADD', P .. 'usage', day, kind .. ':' .. day) end
  end
  redis.call('HINCRBY', rows, 'n' .. key, runs)
  if spent ~= '0' then redis.pcall('HINCRBY', rows, 's' .. key, spent) end
  if unknown ~= '0' then redis.pcall('HINCRBY', rows, 'u' .. key, unknown) end
end

local function negative(amount) return amount == '0' and '0' or '-' .. amount end

-- Counts the usage of a run, as `encode_counted` writes it; that of an end which may be revised is kept.
local function count_usage(id, status, usage)
  local keys, spent, unknown = unpack(cjson.decode(usage))
  for _, row in ipairs(keys) do add_usage(row[1], row[2], row[3], row[4], 1, spent, unknown) end
  if status == 'unknown' then redis.call('HSET', run_key(id), 'usage', usage) end
end

-- Subtracts what an earlier end of a run has added; of days that were deleted, nothing.
local function uncount_usage(id)
  local usage = redis.call('HGET', run_key(id), 'usage')
  if not usage then return end
  redis.call('HDEL', run_key(id), 'usage')
  local keys, spent, unknown = unpack(cjson.decode(usage))
  for _, row in ipairs(keys) do
    local rows = P .. 'usage:' .. row[2] .. ':' .. row[1]
    local key = redis.call('HEXISTS', rows, 'n' .. row[3]) == 1 and row[3] or row[4]
    if redis.call('HEXISTS', rows, 'n' .. key) == 1 then
      add_usage(row[1], row[2], key, key, -1, negative(spent), negative(unknown))
    end
  end
end
