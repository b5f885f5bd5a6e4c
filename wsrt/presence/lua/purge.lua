-- Take a dead node out of some rooms, as far as one call may go.
--
-- KEYS, ARGV: see room.lua; then: most connections, cursor in the first room.
--
-- Returns how many rooms are done, the cursor in the next one, how much of what it may do was done, and the changes.

local most, cursor = tonumber(ARGV[HEAD + 1]), ARGV[HEAD + 2]
local budget = most

-- One page of the node's connections; returns the next cursor.
local function purge(room, of)
  local page = redis.call('HSCAN', room.numbers, cursor, 'COUNT', budget)
  local found, numbers, users, times = page[2], {}, {}, {}
  for i = 1, math.min(#found, 2 * budget), 2 do
    local user = found[i + 1]
    numbers[#numbers + 1] = found[i]
    if not times[user] then
      users[#users + 1], times[user] = user, 0
    end
    times[user] = times[user] + 1
  end
  if #numbers > 0 then
    redis.call('HDEL', room.numbers, unpack(numbers))
    redis.call('HDEL', room.details, unpack(numbers))
    remove(room, of, users, times)
  end
  -- Looking costs too: a hash may be nearly empty, a room have one connection.
  budget = budget - math.max(#numbers, math.ceil(most / 50))
  -- What was too much for this call is found again at the same place.
  return #found > 2 * #numbers and cursor or page[1]
end

for n = 1, tonumber(ARGV[2]) do
  local room = room_of(n)
  repeat
    if budget <= 0 then
      return { n - 1, cursor, most, changes }
    end
    cursor = purge(room, n - 1)
  until cursor == '0'
end
return { tonumber(ARGV[2]), '0', most - budget, changes }
