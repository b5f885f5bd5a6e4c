-- Remove the connections of a dead node from some rooms, up to a limit.
--
-- KEYS and ARGV: see room.lua. Then: the most connections to remove, the cursor in the first room.
--
-- Returns the number of rooms that are finished, the cursor in the next one, the part of the limit that was used, and the
-- changes.

local most, cursor = tonumber(ARGV[head + 1]), ARGV[head + 2]
local budget = most

-- Give back the places of some connections, see places.lua.
local function remove_places(room, numbers)
  local places = {}
  for i, number in ipairs(numbers) do
    places[i] = node .. '-' .. number
  end
  redis.call('ZREM', room.counts, unpack(places))
  redis.call('SREM', room.data, unpack(places))
end

-- Remove one page of the node's connections. Returns whether it was the last page.
local function purge(room, index)
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
    if room.is_places then
      remove_places(room, numbers)
    else
      remove(room, index, users, times)
    end
  end
  -- Reading costs too: there may be many rooms with one connection, or hashes that are nearly empty.
  budget = budget - math.max(#numbers, math.ceil(most / 25))
  if #found > 2 * #numbers then
    return false -- the page exceeded the limit: the next call reads it again
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
