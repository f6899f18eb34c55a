-- Reserves the charges of a run, or nothing. Each charge is six arguments from the sixth on: budget, window, amount,
-- earlier, limit ('' for none) and the end of the window. Returns the place of the charge that was refused, 0 for none,
-- then five numbers for each charge: its balance after the call, and the peak before it.
local generation, run, expires_at, check_at, ends_at = slice(1, 5)
local replaced = generation_error(generation)
if replaced then return replaced end
local held, state = reservation_of(run)
local held_by_account = {}
for _, charge in ipairs(held or {}) do held_by_account[charge[1]] = charge[2] end
local charges, peaks, refused = {}, {}, 0
for place = 6, #ARGV, 6 do
  local budget, window, amount, earlier, limit, window_ends_at = slice(place, 6)
  local account = account_name(budget, window)
  local reserved, spent, unknown, peak = balance_of(account)
  local growth = tonumber(amount) - (held_by_account[account] or 0)
  charges[#charges + 1] = {account, tonumber(amount), tonumber(earlier), window_ends_at}
  peaks[#charges] = peak
  if refused == 0 and growth > 0 and limit ~= '' and reserved + spent + unknown + growth > tonumber(limit) then
    refused = #charges
  end
end
if refused == 0 then
  for _, charge in ipairs(held or {}) do
    take(charge[1], sums_of(state, charge[2], charge[3]))
  end
  for _, charge in ipairs(charges) do
    local reserved, spent, unknown, peak = balance_of(charge[1])
    write_balance(charge[1], reserved + charge[2], spent, unknown, peak)
    redis.call('ZADD', P .. 'budgets', charge[4], charge[1])
  end
  redis.call('HSET', P .. 'reservation:' .. run, 'charges', encode_charges(charges), 'state', 'reserved',
    'expires_at', expires_at, 'ends_at', ends_at)
  redis.call('ZADD', P .. 'reservations', check_at, run)
  redis.call('ZREM', P .. 'settled', run)
end
local reply = {refused}
for place, charge in ipairs(charges) do
  local reserved, spent, unknown, peak = balance_of(charge[1])
  for _, number in ipairs({reserved, spent, unknown, peak, peaks[place]}) do reply[#reply + 1] = whole(number) end
end
return reply
