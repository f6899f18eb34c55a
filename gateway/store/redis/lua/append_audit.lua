-- Appends audit records, each after its sequence number, if the head of the chain is the expected one.
-- Returns the head after that.
local generation, expected, expected_hash, sequence, hash, genesis = slice(1, 6)
local replaced = generation_error(generation)
if replaced then return replaced end
local head = redis.call('HMGET', P .. 'audit', 'head_sequence', 'head_hash')
if (head[1] or '0') ~= expected or (head[2] or genesis) ~= expected_hash then return head end
for place = 7, #ARGV, 2 do redis.call('ZADD', P .. 'audit_records', ARGV[place], ARGV[place + 1]) end
redis.call('HSET', P .. 'audit', 'head_sequence', sequence, 'head_hash', hash)
return {sequence, hash}
