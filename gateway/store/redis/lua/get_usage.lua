-- Returns the rows of usage of a kind: for each of these days the day and the fields of its hash.
local found = {}
for place = 2, #ARGV do
  local fields = redis.call('HGETALL', P .. 'usage:' .. ARGV[1] .. ':' .. ARGV[place])
  if #fields > 0 then
    found[#found + 1] = ARGV[place]
    found[#found + 1] = fields
  end
end
return found
