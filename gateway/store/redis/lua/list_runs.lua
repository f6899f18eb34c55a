-- Lists runs of a client, newest first. Returns overviews, and the score and id to continue from if there are more. Bounded in
-- runs examined and rows returned, so that other scripts do not wait for long.
local client, from, before, status, workflow, limit = slice(1, 6)
local rows, offset, looked = {}, 0, 0
while looked < 500 do
  local page = redis.call('ZREVRANGEBYSCORE', P .. 'runs:' .. client, from, '-inf', 'WITHSCORES', 'LIMIT', offset, 100)
  for place = 1, #page, 2 do
    local id, score = page[place], page[place + 1]
    if before == '' or tonumber(score) < tonumber(from) or smaller(id, before) then
      looked = looked + 1
      local kept = redis.call('HMGET', run_key(id), 'status', 'workflow')
      if kept[1] and (status == '' or status == '=' .. kept[1]) and (workflow == '' or workflow == '=' .. kept[2]) then
        table.insert(rows, overview(id))
        if #rows == tonumber(limit) then return {rows, score, id} end
      end
      if looked == 500 then return {rows, score, id} end
    end
  end
  if #page < 200 then return {rows} end
  offset = offset + 100
end
