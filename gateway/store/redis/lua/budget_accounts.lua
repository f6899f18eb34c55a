-- Amounts are whole numbers below 2^53, which Lua holds exactly; `tostring` would round those above 10^14.
local function whole(number) return string.format('%.0f', number) end

-- Returns the name of an account, of which LENGTH is the length of the budget: LENGTH:BUDGET:WINDOW.
local function account_name(budget, window) return #budget .. ':' .. budget .. ':' .. window end

-- Returns what is reserved, spent and unknown on an account, and its peak.
local function balance_of(account)
  local kept = redis.call('HMGET', P .. 'budget:' .. account, 'reserved', 'spent', 'unknown', 'peak')
  return tonumber(kept[1] or 0), tonumber(kept[2] or 0), tonumber(kept[3] or 0), tonumber(kept[4] or 0)
end

local function write_balance(account, reserved, spent, unknown, peak)
  local used = reserved + spent + unknown
  redis.call('HSET', P .. 'budget:' .. account, 'reserved', whole(reserved), 'spent', whole(spent),
    'unknown', whole(unknown), 'peak', whole(math.max(peak, used)))
end

-- Changes a balance; that of a deleted account is not created again.
local function add(account, reserved, spent, unknown)
  if redis.call('EXISTS', P .. 'budget:' .. account) == 0 then return end
  local had_reserved, had_spent, had_unknown, peak = balance_of(account)
  write_balance(account, had_reserved + reserved, had_spent + spent, had_unknown + unknown, peak)
end

-- Returns what a charge adds to the reserved, spent and unknown amounts of its account.
local function sums_of(state, amount, earlier)
  if state == 'reserved' then return amount, 0, 0 end
  if state == 'spent' then return 0, amount - earlier, earlier end
  return 0, 0, state == 'unknown' and amount or 0
end

local function take(account, reserved, spent, unknown) add(account, -reserved, -spent, -unknown) end

-- Returns the charges of a reservation, each {account, amount, earlier}, and its state; nil without one.
local function reservation_of(run)
  local kept = redis.call('HMGET', P .. 'reservation:' .. run, 'charges', 'state')
  if not kept[1] then return nil end
  local charges = cjson.decode(kept[1])
  for _, charge in ipairs(charges) do
    charge[2], charge[3] = tonumber(charge[2]), tonumber(charge[3])
  end
  return charges, kept[2]
end

-- Returns charges as they are kept: amounts are texts, because cjson rounds numbers above 10^14.
local function encode_charges(charges)
  local kept = {}
  for place, charge in ipairs(charges) do kept[place] = {charge[1], whole(charge[2]), whole(charge[3])} end
  return cjson.encode(kept)
end
