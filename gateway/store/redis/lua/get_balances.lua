-- Returns four numbers for each account, which is two arguments: what is reserved, spent and unknown, and the peak.
local reply = {}
for place = 1, #ARGV, 2 do
  local budget, window = slice(place, 2)
  for _, number in ipairs({balance_of(account_name(budget, window))}) do reply[#reply + 1] = whole(number) end
end
return reply
