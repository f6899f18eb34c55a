-- Ends a run in the phase QUEUED, whatever its owner. Returns 2, or 1 in another phase, or 0 if it does not exist.
local id = ARGV[1]
local kept = kept_before_end(id)
if not kept[2] then return 0 end
if kept[2] ~= '0' then return 1 end
end_run(id, kept)
return 2
