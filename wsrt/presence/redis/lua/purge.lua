-- Take a dead node out of some rooms, as far as one call may go.
--
-- KEYS, ARGV: see room.lua; then: most connections, cursor in the first room.
--
-- Returns how many rooms are done, the cursor in the next one, how much of what it may do was done, and the changes.

local most, cursor = tonumber(ARGV[head + 1]), ARGV[head + 2]
local budget = most

-- One page of the node's connections; returns whether it was the last one.
local function purge(room, of)
  local page = redis.call('HSCAN', room.numbers, cursor, 'COUNT', budget)
  local found, numbers, users, times = page[2], {}, {}, {}
  for i = 1, math.min(#found, 2 * budget), 2 do
    local user = found[i + 1]
    numbers[#numbers + 1] = found[i]
    if not times[user] then
      users[#users + 1] = user
    end
    times[user] = (times[user] or 0) + 1
  end
  if #numbers > 0 then
    if cursor == '0' and page[1] == '0' and #found == 2 * #numbers then
      redis.call('UNLINK', room.numbers, room.details)
    else
      redis.call('HDEL', room.numbers, unpack(numbers))
      if room.is_everyone then
        redis.call('HDEL', room.details, unpack(numbers))
      end
    end
    remove(room, of, users, times)
  end
  -- Looking costs too: a hash may be nearly empty, a room have one connection.
  budget = budget - math.max(#numbers, math.ceil(most / 25))
  if #found > 2 * #numbers then
    return false -- what was too much for this call is found again at the same place
  end
  cursor = page[1]
  return cursor == '0'
end

for n = 1, count do
  local room = room_of(n)
  repeat
    if budget <= 0 then
      return { n - 1, cursor, most, changes }
    end
  until purge(room, n - 1)
end
return { count, '0', most - budget, changes }
