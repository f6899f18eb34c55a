-- Lists runs, newest first: of a client, or of all if it is ''. Returns overviews, the number of runs examined, and the score
-- and id to continue from if there are more. Bounded in runs examined and rows returned, so that other scripts do not wait.
local from, before, limit, most, client, prefix, since, shortest, longest, durable, judged = slice(1, 11)
limit, most, shortest, longest = tonumber(limit), tonumber(most), tonumber(shortest), tonumber(longest)
local place = 12
local function list()
  local count = tonumber(ARGV[place])
  local first = place + 1
  place = first + count
  return slice(first, count)
end
local names, values, tags, fragments, activities = {list()}, {list()}, {list()}, {list()}, {list()}

-- The fewest candidates: the runs with one of the tags, or with the status, with an activity, or with a judgement; else all
-- runs. Of the lists that are not read, only those are examined (`others`) which tell more than the fields do.
local source, others, fewest = P .. 'runs:' .. client, {}, nil
for _, tag in ipairs(tags) do
  local key = tag_key(client, tag)
  local count = redis.call('ZCARD', key)
  if not fewest or count < fewest then
    if fewest then table.insert(others, source) end
    source, fewest = key, count
  else
    table.insert(others, key)
  end
end

local function consider(key)
  local count = redis.call('ZCARD', key)
  if count >= (fewest or redis.call('ZCARD', source)) then return end
  if source ~= P .. 'runs:' then table.insert(others, source) end
  source, fewest = key, count
end
for number, name in ipairs(names) do
  local key = name == 'status' and status_key(values[number])
  if key then consider(key) end
end
if #activities > 0 then consider(P .. 'active') end
if judged == '1' then consider(P .. 'judged') end

local fields = {unpack(names)}
local function field(name)
  table.insert(fields, name)
  return #fields
end
local timed = (shortest or longest) and field('created_at')
local ended = timed and field('finished_at')
local kind = durable ~= '' and field('durable')
local verdict = judged ~= '' and field('judgement')
local detailed = #fragments > 0 and field('details')
local doing = #activities > 0 and field('activity')

local function contains(text, wanted)
  for _, fragment in ipairs(wanted) do
    if not text or not text:find(fragment, 1, true) then return false end
  end
  return true
end

-- True also for a run that does not exist, if there is no condition on its fields: its overview is empty.
local function matches(id)
  if prefix ~= '' and id:sub(1, #prefix) ~= prefix then return false end
  for _, key in ipairs(others) do
    if not redis.call('ZSCORE', key, id) then return false end
  end
  if #fields == 0 then return true end
  local kept = #fields == 1 and {redis.call('HGET', run_key(id), fields[1])} or redis.call('HMGET', run_key(id), unpack(fields))
  for number, value in ipairs(values) do
    if kept[number] ~= value then return false end
  end
  if timed then
    if not kept[ended] then return false end
    local duration = tonumber(kept[ended]) - tonumber(kept[timed])
    if (shortest and duration < shortest) or (longest and duration > longest) then return false end
  end
  if kind and (kept[kind] == '0') ~= (durable == '0') then return false end
  if verdict and (kept[verdict] and '1' or '0') ~= judged then return false end
  return (not detailed or contains(kept[detailed], fragments)) and (not doing or contains(kept[doing], activities))
end

-- Runs with the same score are in descending order of their ids: those from `before` on are left out. Scores are read for the
-- end only, because it takes long to format them.
local newest = (before == '' and from ~= 'inf') and '(' .. from or from
local offset = 0
if before ~= '' then
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', source, from, from)) do
    if smaller(id, before) then break end
    offset = offset + 1
  end
end

local rows, examined = {}, 0
local size = math.min(most, #fields == 0 and prefix == '' and limit + 1 or 500)
while true do
  local page = redis.call('ZREVRANGEBYSCORE', source, newest, since == '' and '-inf' or since, 'LIMIT', offset, size)
  for _, id in ipairs(page) do
    examined = examined + 1
    if matches(id) then table.insert(rows, overview(id)) end
    if #rows == limit or examined == most then return {rows, examined, redis.call('ZSCORE', source, id), id} end
  end
  if #page < size then return {rows, examined} end
  offset = offset + size
end
