-- Settles reservations. Each is three arguments: the run, 'none', 'spent' or 'unknown', and '1' if its last start may have
-- been executed.
for place = 1, #ARGV, 3 do
  local run, how, last_started = slice(place, 3)
  local charges, state = reservation_of(run)
  if charges and state ~= how and (how ~= 'unknown' or state == 'reserved') then
    for _, charge in ipairs(charges) do
      take(charge[1], sums_of(state, charge[2], charge[3]))
      if how == 'unknown' and last_started ~= '1' then charge[2] = charge[3] end
      add(charge[1], sums_of(how, charge[2], charge[3]))
    end
    local key = P .. 'reservation:' .. run
    redis.call('ZREM', P .. 'reservations', run)
    if state == 'reserved' and how ~= 'unknown' then
      redis.call('UNLINK', key)
    else
      redis.call('HSET', key, 'charges', encode_charges(charges), 'state', how)
      redis.call('ZADD', P .. 'settled', redis.call('HGET', key, 'ends_at'), run)
    end
  end
end
return 1
