-- Lists audit records after a sequence number, each followed by its own; ascending (1) or descending (0).
local ascending, cursor, offset, count = slice(1, 4)
local key = P .. 'audit_records'
if ascending == '1' then
  local from = cursor == '' and '-inf' or '(' .. cursor
  return redis.call('ZRANGEBYSCORE', key, from, '+inf', 'WITHSCORES', 'LIMIT', offset, count)
end
local from = cursor == '' and '+inf' or '(' .. cursor
return redis.call('ZREVRANGEBYSCORE', key, from, '-inf', 'WITHSCORES', 'LIMIT', offset, count)
