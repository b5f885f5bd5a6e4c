-- Give places to connections of one node, and take them back, in order. See wsrt.presence.places.
--
-- The connections of a user or an address that take a place form a room of their own. Of the keys of rooms (see room.lua), it
-- has these, with another content:
--   counts   ZSET  of all nodes: place -> time at which it was given, in microseconds
--   data     SET   of all nodes: places that were given to newer connections, until their nodes have closed the older ones
--   numbers  HASH  of the node: number of a connection -> ""
-- A place is written as the node's id, a dash, and the number of the connection.
--
-- KEYS: 1 writers; then for each room: counts, data, numbers.
-- ARGV: 1 node; then the operations:
--   "claim", number of the room, number of the connection, limit, "refuse" or "replace"
--   "keep", number of the room, number of the connection: a claim without a limit, of a connection that has its place
--   "leave", number of the room, number of the connection
--
-- Returns false if the node may not write; else the number of the node's connections in each room, and for each claim, the
-- number of the operation from 0, whether there is a place, and the places whose connections have to be closed.

if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then
  return false
end

-- The most places that one claim replaces. There is one to replace, unless the limit was lowered.
local MOST_REPLACED = 100

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local decisions = {}

local function decide(index, is_given, replaced)
  local at = #decisions
  decisions[at + 1], decisions[at + 2], decisions[at + 3] = index, is_given and 1 or 0, replaced
end

-- Within a script the clock stands still, and it may be set back, but the newest place must come last.
local function give(room, number, place)
  local newest = redis.call('ZRANGE', room.places, -1, -1, 'WITHSCORES')
  local since = math.max(now, (tonumber(newest[2]) or 0) + 1)
  redis.call('ZADD', room.places, string.format('%.0f', since), place)
  redis.call('HSET', room.numbers, number, '')
end

local function claim(room, index, number, limit, replaces)
  local place = ARGV[1] .. '-' .. number
  -- A claim is repeated if its answer was lost. By then the place may have been given to a newer connection, which has told
  -- this one to close.
  if redis.call('ZSCORE', room.places, place) or redis.call('SISMEMBER', room.replaced, place) == 1 then
    return decide(index, true, redis.call('SRANDMEMBER', room.replaced, MOST_REPLACED))
  end
  local over, replaced = redis.call('ZCARD', room.places) + 1 - limit, {}
  if over > 0 then
    if not replaces then
      return decide(index, false, {})
    end
    replaced = redis.call('ZRANGE', room.places, 0, math.min(over, MOST_REPLACED) - 1)
    redis.call('ZREM', room.places, unpack(replaced))
    redis.call('SADD', room.replaced, unpack(replaced))
  end
  give(room, number, place)
  decide(index, true, replaced)
end

local function keep(room, index, number)
  local place = ARGV[1] .. '-' .. number
  if not redis.call('ZSCORE', room.places, place) and redis.call('SISMEMBER', room.replaced, place) == 0 then
    give(room, number, place)
  end
  decide(index, true, redis.call('SRANDMEMBER', room.replaced, MOST_REPLACED))
end

local function leave(room, number)
  local place = ARGV[1] .. '-' .. number
  redis.call('HDEL', room.numbers, number)
  redis.call('ZREM', room.places, place)
  redis.call('SREM', room.replaced, place)
end

local rooms = {}
for i = 2, #KEYS, 3 do
  rooms[#rooms + 1] = { places = KEYS[i], replaced = KEYS[i + 1], numbers = KEYS[i + 2] }
end

local at, index = 2, 0
while at <= #ARGV do
  local room, number = rooms[tonumber(ARGV[at + 1])], ARGV[at + 2]
  if ARGV[at] == 'claim' then
    claim(room, index, number, tonumber(ARGV[at + 3]), ARGV[at + 4] == 'replace')
    at = at + 5
  elseif ARGV[at] == 'keep' then
    keep(room, index, number)
    at = at + 3
  else
    leave(room, number)
    at = at + 3
  end
  index = index + 1
end

local held = {}
for n, room in ipairs(rooms) do
  held[n] = redis.call('HLEN', room.numbers)
end
return { held, decisions }
