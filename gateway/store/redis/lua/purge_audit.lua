-- Deletes the audit records up to a sequence number, which becomes the anchor unless a later one is. Returns their number.
local generation, sequence, hash = slice(1, 3)
local replaced = generation_error(generation)
if replaced then return replaced end
local anchor = redis.call('HGET', P .. 'audit', 'anchor_sequence') or '0'
if tonumber(anchor) >= tonumber(sequence) then return 0 end
redis.call('HSET', P .. 'audit', 'anchor_sequence', sequence, 'anchor_hash', hash)
return redis.call('ZREMRANGEBYSCORE', P .. 'audit_records', '-inf', sequence)
