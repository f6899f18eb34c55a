-- Lists runs of a client, newest first. Returns overviews, the number of runs examined, and the score and id to continue from
-- if there are more. Bounded in runs examined and rows returned, so that other scripts do not wait for long.
local from, before, limit, most, client, prefix, since, shortest, longest = slice(1, 9)
limit, most, shortest, longest = tonumber(limit), tonumber(most), tonumber(shortest), tonumber(longest)
local place = 10
local function list()
  local count = tonumber(ARGV[place])
  local first = place + 1
  place = first + count
  return slice(first, count)
end
local names, values, tags, fragments = {list()}, {list()}, {list()}, {list()}

-- The fewest candidates: the runs with one of the tags, or all runs of the client.
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

local fields = {'id', unpack(names)}
local timed = #fields + 1
if shortest or longest then
  table.insert(fields, 'created_at')
  table.insert(fields, 'finished_at')
end
if #fragments > 0 then table.insert(fields, 'details') end

local function matches(id)
  if id:sub(1, #prefix) ~= prefix then return false end
  for _, key in ipairs(others) do
    if not redis.call('ZSCORE', key, id) then return false end
  end
  local kept = redis.call('HMGET', run_key(id), unpack(fields))
  if not kept[1] then return false end
  for number, value in ipairs(values) do
    if kept[number + 1] ~= value then return false end
  end
  if shortest or longest then
    if not kept[timed + 1] then return false end
    local duration = tonumber(kept[timed + 1]) - tonumber(kept[timed])
    if (shortest and duration < shortest) or (longest and duration > longest) then return false end
  end
  for _, fragment in ipairs(fragments) do
    local details = kept[#fields]
    if not details or not details:find(fragment, 1, true) then return false end
  end
  return true
end

local rows, offset, examined = {}, 0, 0
local newest = (before == '' and from ~= 'inf') and '(' .. from or from
while true do
  local page = redis.call(
    'ZREVRANGEBYSCORE', source, newest, since == '' and '-inf' or since, 'WITHSCORES', 'LIMIT', offset, 100
  )
  for number = 1, #page, 2 do
    local id, score = page[number], page[number + 1]
    if before == '' or tonumber(score) < tonumber(from) or smaller(id, before) then
      examined = examined + 1
      if matches(id) then table.insert(rows, overview(id)) end
      if #rows == limit or examined == most then return {rows, examined, score, id} end
    end
  end
  if #page < 200 then return {rows, examined} end
  offset = offset + 100
end
