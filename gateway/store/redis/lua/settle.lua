-- Settles reservations. Each is three arguments: the run, 'none', 'spent' or 'unknown', and '1' if its last start may have
-- been executed.
for place = 1, #ARGV, 3 do
  local run, settled_as, last_started = slice(place, 3)
  local charges, uncertain = reservation_of(run)
  if charges and not (uncertain and settled_as == 'unknown') then
    local kept = {}
    for _, charge in ipairs(charges) do
      local account, amount, earlier = unpack(charge, 1, 3)
      local reserved, spent, unknown = -amount, 0, 0
      if uncertain then reserved, unknown = 0, -amount end
      if settled_as == 'spent' then
        spent, unknown = amount - earlier, unknown + earlier
      elseif settled_as == 'unknown' then
        local doubtful = last_started == '1' and amount or earlier
        unknown = unknown + doubtful
        kept[#kept + 1] = {account, doubtful, math.min(earlier, doubtful)}
      end
      add(account, reserved, spent, unknown)
    end
    local key = P .. 'reservation:' .. run
    redis.call('ZREM', P .. 'reservations', run)
    if settled_as == 'unknown' then
      redis.call('HSET', key, 'charges', encode_charges(kept), 'uncertain', '1')
      redis.call('ZADD', P .. 'uncertain', redis.call('HGET', key, 'ends_at'), run)
    else
      redis.call('ZREM', P .. 'uncertain', run)
      redis.call('UNLINK', key)
    end
  end
end
return 1
