-- Deletes an unfinished run and its idempotency record. No effect if it has ended, or the owner is another one.
local id, owner = slice(1, 2)
local kept = redis.call('HMGET', run_key(id), 'owner', 'phase', 'claim')
if kept[1] ~= owner or tonumber(kept[2]) == 3 then return nil end
local claim = claim_of(id, kept[3])
if claim then
  redis.call('DEL', claim)
  redis.call('ZREM', P .. 'claims', kept[3])
end
end_lease(id, owner)
delete_run(id)
changed(id)
return nil
