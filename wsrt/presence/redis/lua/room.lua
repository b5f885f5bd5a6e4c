-- Rooms, and how they change. Stands before the scripts that write them.
--
-- KEYS: 1 nodes that may write, 2 versions, 3 namespaces; then for each room: counts, data, list, numbers, details.
-- ARGV: 1 node, 2 number of rooms; then for each room: its field, its namespace, its name ("" for that of everyone).
--
-- Of one slot:
--   nodes that may write  SET      ids
--   versions              HASH     room -> version; "" -> the highest version of a room that is gone
--   namespaces            HASH     namespace -> rooms that anybody is in
-- Of one room:
--   counts                HASH     "c" connections, "n" users, "g" guests, "u" .. user -> connections of the user
--   data                  HASH     user -> JSON
--   list                  ZSET     of the namespace: room -> users and guests; without that of everyone
--   numbers               HASH     of the node: number of a connection -> user, "" for a guest
--   details               HASH     of the node: number of a connection -> JSON; of the room of everyone only

local writers, versions, namespaces = KEYS[1], KEYS[2], KEYS[3]
local node, count = ARGV[1], tonumber(ARGV[2])
local head = 2 + 3 * count
local changes = {}

local function room_of(n)
  local key, argument = 3 + 5 * (n - 1), 2 + 3 * (n - 1)
  return {
    counts = KEYS[key + 1], data = KEYS[key + 2], list = KEYS[key + 3],
    numbers = KEYS[key + 4], details = KEYS[key + 5],
    field = ARGV[argument + 1], namespace = ARGV[argument + 2], name = ARGV[argument + 3],
    is_everyone = ARGV[argument + 3] == '',
  }
end

local function may_write()
  return redis.call('SISMEMBER', writers, node) == 1
end

-- What members have to be told: triples of kind, user and connections. Each has a version; returned is that of the first.
-- `of` is the number of the operation or room that it came of.
local function tell(room, of, told)
  local more = #told / 3
  local last = redis.call('HINCRBY', versions, room.field, more)
  local at = #changes
  changes[at + 1], changes[at + 2], changes[at + 3] = of, last - more + 1, told
end

local function rank(room, by)
  if not room.is_everyone then
    redis.call('ZINCRBY', room.list, by, room.name)
  end
end

-- Versions go on from the clock, so that those of a room that is gone need not be kept. The highest of them is: the
-- clock stands still in a script, and may be set back.
local function open(room)
  local time = redis.call('TIME')
  local highest = tonumber(redis.call('HGET', versions, '') or 0)
  local start = math.max(time[1] * 1000000 + time[2], highest + 1)
  redis.call('HSET', versions, room.field, string.format('%.0f', start - 1))
  redis.call('HINCRBY', namespaces, room.namespace, 1)
end

local function close(room)
  local version = redis.call('HGET', versions, room.field) or '0'
  local highest = redis.call('HGET', versions, '') or '0'
  if tonumber(version) > tonumber(highest) then
    redis.call('HSET', versions, '', version)
  end
  redis.call('HDEL', versions, room.field)
  redis.call('UNLINK', room.counts, room.data)
  if not room.is_everyone then
    redis.call('ZREM', room.list, room.name)
  end
  if redis.call('HINCRBY', namespaces, room.namespace, -1) <= 0 then
    redis.call('HDEL', namespaces, room.namespace)
  end
end

-- The last word of a user counts; whether it was another one.
local function say(room, user, data)
  if (redis.call('HGET', room.data, user) or '') == data then
    return false
  end
  if data == '' then
    redis.call('HDEL', room.data, user)
  else
    redis.call('HSET', room.data, user, data)
  end
  return true
end

-- One connection more; without data, it says nothing of its user.
local function add(room, of, user, data)
  if redis.call('HINCRBY', room.counts, 'c', 1) == 1 then
    open(room)
  end
  if user == '' then
    local guests = redis.call('HINCRBY', room.counts, 'g', 1)
    rank(room, 1)
    tell(room, of, { guests == 1 and 'joined' or 'changed', '', guests })
    return
  end
  local connections = redis.call('HINCRBY', room.counts, 'u' .. user, 1)
  if connections == 1 then
    redis.call('HINCRBY', room.counts, 'n', 1)
    rank(room, 1)
    if data and data ~= '' then
      redis.call('HSET', room.data, user, data)
    end
    tell(room, of, { 'joined', user, 1 })
  elseif data and say(room, user, data) then
    tell(room, of, { 'changed', user, connections })
  end
end

-- Fewer connections of some users: by how many is in `times`.
local function remove(room, of, users, times)
  local fields, connections = {}, 0
  for i, user in ipairs(users) do
    fields[i] = user == '' and 'g' or 'u' .. user
    connections = connections + times[user]
  end
  local counts = redis.call('HMGET', room.counts, unpack(fields))
  local told, gone, empty, fewer = {}, {}, {}, 0
  for i, user in ipairs(users) do
    local left = (counts[i] or 0) - times[user]
    if left <= 0 then
      empty[#empty + 1] = fields[i]
    else
      redis.call('HINCRBY', room.counts, fields[i], -times[user])
    end
    if user == '' then
      fewer = fewer + times[user]
    elseif left <= 0 then
      fewer, gone[#gone + 1] = fewer + 1, user
    end
    if user == '' or left <= 0 then
      local at = #told
      told[at + 1], told[at + 2], told[at + 3] = left > 0 and 'changed' or 'left', user, left
    end
  end
  if #told > 0 then
    tell(room, of, told)
  end
  if redis.call('HINCRBY', room.counts, 'c', -connections) <= 0 then
    close(room)
    return
  end
  if #empty > 0 then
    redis.call('HDEL', room.counts, unpack(empty))
  end
  if #gone > 0 then
    redis.call('HDEL', room.data, unpack(gone))
    redis.call('HINCRBY', room.counts, 'n', -#gone)
  end
  if fewer > 0 then
    rank(room, -fewer)
  end
end
