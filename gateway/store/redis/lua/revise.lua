-- Ends a run, whatever its owner, if it has not ended or has ended as `unknown`. Returns 1, else 0.
local id = ARGV[1]
local kept = redis.call('HMGET', run_key(id), 'owner', 'phase', 'claim', 'callback_url', 'status')
if not kept[1] or (tonumber(kept[2]) == 3 and kept[5] ~= 'unknown') then return 0 end
return end_run(id, kept[1], kept[3], kept[4])
