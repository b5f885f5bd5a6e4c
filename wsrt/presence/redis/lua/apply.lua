-- Apply joins and leaves of one node, in order.
--
-- KEYS and ARGV: see room.lua. Then the operations:
--   "enter", number of the room, number of the connection, user, details: a join that sets no data. User and details are
--            "" if there are none.
--   "join", the same, data: a join that sets the user's data; "" clears it.
--   "leave", number of the room, number of the connection
--
-- Returns false if the node may not write; else the number of the node's connections in each room, and the changes.

if not may_write() then
  return false
end

local rooms = {}
for n = 1, count do
  rooms[n] = room_of(n)
end

-- `data` is nil if the join sets no data.
local function join(room, index, number, user, details, data)
  if redis.call('HSETNX', room.numbers, number, user) == 1 then
    add(room, index, user, data)
  else
    local before = redis.call('HGET', room.numbers, number)
    if before ~= user then
      redis.call('HSET', room.numbers, number, user)
      add(room, index, user, data)
      remove(room, index, { before }, { [before] = 1 })
    elseif user ~= '' and data and set_data(room, user, data) then
      record(room, index, { 'changed', user, tonumber(redis.call('HGET', room.counts, 'u' .. user)) })
    end
  end
  if room.is_everyone and details ~= '' then
    redis.call('HSET', room.details, number, details)
  elseif room.is_everyone then
    redis.call('HDEL', room.details, number)
  end
end

local function leave(room, index, number)
  local user = redis.call('HGET', room.numbers, number)
  if user then
    redis.call('HDEL', room.numbers, number)
    if room.is_everyone then
      redis.call('HDEL', room.details, number)
    end
    remove(room, index, { user }, { [user] = 1 })
  end
end

local at, index = head + 1, 0
while at <= #ARGV do
  local room, number = rooms[tonumber(ARGV[at + 1])], ARGV[at + 2]
  if ARGV[at] == 'join' then
    join(room, index, number, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    at = at + 6
  elseif ARGV[at] == 'enter' then
    join(room, index, number, ARGV[at + 3], ARGV[at + 4])
    at = at + 5
  else
    leave(room, index, number)
    at = at + 3
  end
  index = index + 1
end

local held = {}
for n, room in ipairs(rooms) do
  held[n] = redis.call('HLEN', room.numbers)
end
return { held, changes }
