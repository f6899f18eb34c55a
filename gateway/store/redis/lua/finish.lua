-- Ends a run. Returns 1, or 0 if it has ended, the owner is another one, or it does not exist.
local id, owner = slice(1, 2)
local kept = kept_before_end(id)
if kept[1] ~= owner or tonumber(kept[2]) == 3 then return 0 end
return end_run(id, kept)
