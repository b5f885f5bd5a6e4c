-- Joins and leaves of one node, in order.
--
-- KEYS, ARGV: see room.lua; then the operations:
--   "enter", number of the room, number of the connection, user, details; "" for none of the last two
--   "join", the same and data, "" for none: what is shown of the user from here on
--   "leave", number of the room, number of the connection
--
-- Returns nothing if the node may not write; else how many connections the node has in each room, and the changes.

if not may_write() then
  return false
end

local rooms = {}
for n = 1, count do
  rooms[n] = room_of(n)
end

-- Without data, nothing is said of the user.
local function join(room, of, number, user, details, data)
  if redis.call('HSETNX', room.numbers, number, user) == 1 then
    add(room, of, user, data)
  else
    local before = redis.call('HGET', room.numbers, number)
    if before ~= user then
      redis.call('HSET', room.numbers, number, user)
      add(room, of, user, data)
      remove(room, of, { before }, { [before] = 1 })
    elseif user ~= '' and data and say(room, user, data) then
      tell(room, of, { 'changed', user, tonumber(redis.call('HGET', room.counts, 'u' .. user)) })
    end
  end
  if room.is_everyone and details ~= '' then
    redis.call('HSET', room.details, number, details)
  elseif room.is_everyone then
    redis.call('HDEL', room.details, number)
  end
end

local function leave(room, of, number)
  local user = redis.call('HGET', room.numbers, number)
  if user then
    redis.call('HDEL', room.numbers, number)
    if room.is_everyone then
      redis.call('HDEL', room.details, number)
    end
    remove(room, of, { user }, { [user] = 1 })
  end
end

local at, of = head + 1, 0
while at <= #ARGV do
  local room, number = rooms[tonumber(ARGV[at + 1])], ARGV[at + 2]
  if ARGV[at] == 'join' then
    join(room, of, number, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    at = at + 6
  elseif ARGV[at] == 'enter' then
    join(room, of, number, ARGV[at + 3], ARGV[at + 4])
    at = at + 5
  else
    leave(room, of, number)
    at = at + 3
  end
  of = of + 1
end

local held = {}
for n, room in ipairs(rooms) do
  held[n] = redis.call('HLEN', room.numbers)
end
return { held, changes }
