-- Ends a run, whatever its owner, if it has not ended or has ended as `unknown`. Returns 1, else 0.
local id = ARGV[1]
local kept = kept_before_end(id)
if not kept[2] or (tonumber(kept[2]) == 3 and kept[3] ~= 'unknown') then return 0 end
return end_run(id, kept)
