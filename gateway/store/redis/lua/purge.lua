-- Deletes a batch of old runs and idempotency records; returns their number.
local runs_before, keys_before, most = slice(1, 3)
local runs = redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', '(' .. runs_before, 'LIMIT', 0, most)
for _, id in ipairs(runs) do
  call_back(id, nil)
  redis.call('ZREM', P .. 'ended', id)
  delete_run(id)
end
local claims = redis.call('ZRANGEBYSCORE', P .. 'claims', '-inf', '(' .. keys_before, 'LIMIT', 0, most)
for _, claim in ipairs(claims) do
  redis.call('ZREM', P .. 'claims', claim)
  redis.call('UNLINK', P .. 'claim:' .. claim)
end
return #runs + #claims
