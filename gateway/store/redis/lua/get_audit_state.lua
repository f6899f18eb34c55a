-- Returns the sequence number and the hash of the anchor of the chain of audit records, and of its head.
return redis.call('HMGET', P .. 'audit', 'anchor_sequence', 'anchor_hash', 'head_sequence', 'head_hash')
