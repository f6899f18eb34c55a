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

-- Returns the key of the list of the runs with a status; nil if there is none.
local function status_key(status)
  if status == 'succeeded' then return nil end
  return P .. ((status == 'queued' or status == 'running') and 'unfinished' or 'status:' .. status)
end

-- Returns the keys of the lists by `created_at` that a run is in; `tags` is a field of the run.
local function lists_of(client, status, tags)
  local keys = {P .. 'runs:', P .. 'runs:' .. client, status_key(status)}
  for tag in (tags or ''):gmatch('%S+') do
    keys[#keys + 1] = tag_key('', tag)
    keys[#keys + 1] = tag_key(client, tag)
  end
  return keys
end

local function enter_lists(id, client, created_at, status, tags)
  for _, key in ipairs(lists_of(client, status, tags)) do redis.call('ZADD', key, created_at, id) end
end

local function move_status(id, before, after, created_at)
  local from, to = status_key(before), status_key(after)
  if from == to then return end
  if from then redis.call('ZREM', from, id) end
  if to then redis.call('ZADD', to, created_at, id) end
end

-- Deletes a run, and its entries in the lists by `created_at`.
local function delete_run(id)
  local kept = redis.call('HMGET', run_key(id), 'client', 'status', 'tags')
  if not kept[1] then return end
  for _, key in ipairs(lists_of(unpack(kept, 1, 3))) do redis.call('ZREM', key, id) end
  redis.call('ZREM', P .. 'active', id)
  redis.call('ZREM', P .. 'judged', id)
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
