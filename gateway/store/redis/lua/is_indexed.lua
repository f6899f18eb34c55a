-- Returns 1 if the list of the runs of all clients has as many runs as there are, else 0.
local runs = 0
for _, list in ipairs({'leases', 'ended', 'due', 'recorded'}) do runs = runs + redis.call('ZCARD', P .. list) end
return redis.call('ZCARD', P .. 'runs:') == runs and 1 or 0
