-- Prelude of every script. KEYS[1] is the prefix of all keys; scripts compute the keys, so one server has to hold them
-- all. The tables FIELDS, OVERVIEW, CLAIM and DELIVERY, and MAX_TIMELINE, are defined before this text.
local P = KEYS[1]

-- The generation is lost with the data (FLUSHALL). Returns the error of a write to another generation, or nil.
local function generation_error(expected)
  if redis.call('GET', P .. 'generation') == expected then return nil end
  return redis.error_reply('GENERATION changed')
end

local function run_key(id) return P .. 'run:' .. id end

local function row(id) return redis.call('HMGET', run_key(id), unpack(FIELDS)) end

local function overview(id) return redis.call('HMGET', run_key(id), unpack(OVERVIEW)) end

local function slice(from, count) return unpack(ARGV, from, from + count - 1) end

local function changed(id) redis.call('PUBLISH', P .. 'changed', id) end

-- Compares bytes, independently of the locale of the server.
local function smaller(a, b)
  for place = 1, math.min(#a, #b) do
    local one, other = a:byte(place), b:byte(place)
    if one ~= other then return one < other end
  end
  return #a < #b
end

-- The lists of all clients are those of the client '', which no client is named.
local function tag_key(client, tag) return P .. 'tagged:' .. #client .. ':' .. client .. ':' .. tag end

-- Updates the lists by status, which have no succeeded runs; `before` and `after` are nil or false outside of the run's life.
local function move_status(id, before, after, created_at)
  if before == after then return end
  if before and before ~= 'succeeded' then redis.call('ZREM', P .. 'status:' .. before, id) end
  if after and after ~= 'succeeded' then redis.call('ZADD', P .. 'status:' .. after, created_at, id) end
end

-- Adds a run to its lists; `tags` is a field of the run.
local function enter_lists(id, client, created_at, status, tags)
  redis.call('ZADD', P .. 'runs:', created_at, id)
  redis.call('ZADD', P .. 'runs:' .. client, created_at, id)
  move_status(id, nil, status, created_at)
  if tags and tags ~= '' then
    for tag in tags:gmatch('%S+') do
      redis.call('ZADD', tag_key('', tag), created_at, id)
      redis.call('ZADD', tag_key(client, tag), created_at, id)
    end
  end
end

-- Removes a run, and its entries in lists. The caller removes it from those of leases, ends and callbacks.
local function delete_run(id)
  local kept = redis.call('HMGET', run_key(id), 'client', 'status', 'tags')
  redis.call('ZREM', P .. 'runs:', id)
  redis.call('ZREM', P .. 'judged', id)
  redis.call('ZREM', P .. 'active', id)
  if not kept[1] then return end
  redis.call('ZREM', P .. 'runs:' .. kept[1], id)
  move_status(id, kept[2], nil)
  if kept[3] then
    for tag in kept[3]:gmatch('%S+') do
      redis.call('ZREM', tag_key('', tag), id)
      redis.call('ZREM', tag_key(kept[1], tag), id)
    end
  end
  redis.call('UNLINK', run_key(id))
end

-- Adds events to the timeline of a run, unless it would be too long.
local function add_events(id, events)
  if events == '' then return end
  local lines = redis.call('HGET', run_key(id), 'timeline') or ''
  if #lines + #events <= MAX_TIMELINE then redis.call('HSET', run_key(id), 'timeline', lines .. events) end
end

local function lease(id, owner, until_at)
  redis.call('ZADD', P .. 'leases', until_at, id)
  redis.call('ZADD', P .. 'owned:' .. owner, 0, id)
end

local function end_lease(id, owner)
  redis.call('ZREM', P .. 'leases', id)
  redis.call('ZREM', P .. 'owned:' .. owner, id)
end

-- Sets the callback state of a run; nil removes it.
local function call_back(id, state)
  local before = redis.call('HGET', run_key(id), 'callback_state')
  if before then redis.call('ZREM', P .. 'callbacks:' .. before, id) end
  if state then
    redis.call('HSET', run_key(id), 'callback_state', state)
    redis.call('ZADD', P .. 'callbacks:' .. state, 0, id)
  end
end

-- Sets the due time of a callback, and the time at which that was written.
local function make_due(id, due_at, written_at)
  redis.call('ZADD', P .. 'due', due_at, id)
  redis.call('ZADD', P .. 'written', written_at, id)
end

-- Returns whether the callback of a run has this revision.
local function is_revision(id, revision)
  return (redis.call('HGET', run_key(id), 'revision') or '0') == revision
end

-- Returns the key of the idempotency record of a run, or nil if it was deleted or belongs to another run.
local function claim_of(id, claim)
  local key = claim and P .. 'claim:' .. claim
  if key and redis.call('HGET', key, 'run_id') == id then return key end
  return nil
end
