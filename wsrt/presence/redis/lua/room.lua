-- The keys of rooms, and functions that change them. Prepended to the scripts that write rooms.
--
-- KEYS: 1 writers, 2 versions, 3 namespaces; then for each room: counts, data, list, numbers, details.
-- ARGV: 1 node, 2 number of rooms; then for each room: field, namespace, name ("" for the room of everyone).
--
-- Keys of a partition:
--   writers     SET   ids of the nodes that may write
--   versions    HASH  field of a room -> version; "" -> the highest version of a room that was removed
--   namespaces  HASH  namespace -> number of its rooms that have connections
--   list        ZSET  of a namespace: name of a room -> number of users and guests. Without the room of everyone.
-- Keys of a room:
--   counts      HASH  "c" connections, "n" users, "g" guests, "u" .. user -> connections of the user
--   data        HASH  user -> JSON
--   numbers     HASH  of the node: number of a connection -> user, "" for a guest
--   details     HASH  of the node: number of a connection -> JSON. Only for the room of everyone.

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
    -- Not a room, but the places of a user or an address, see places.lua.
    is_places = string.sub(ARGV[argument + 3], 1, 12) == 'wsrt.places:',
  }
end

local function may_write()
  return redis.call('SISMEMBER', writers, node) == 1
end

-- Record changes of a room, to be returned by the script. `changed` is a flat list of kind, user and connections of each
-- change. Each change has a version; the script returns that of the first. `index` is the number, from 0, of the operation
-- or room that caused them.
local function record(room, index, changed)
  local more = #changed / 3
  local last = redis.call('HINCRBY', versions, room.field, more)
  local at = #changes
  changes[at + 1], changes[at + 2], changes[at + 3] = index, last - more + 1, changed
end

-- Change the size of a room in the list of its namespace.
local function rank(room, by)
  if not room.is_everyone then
    redis.call('ZINCRBY', room.list, by, room.name)
  end
end

-- Begin a room with its first connection. Its versions start at the time in microseconds, so that they are higher than
-- those of an earlier room of this name, and need not be kept when it is removed. Only the highest version of all removed
-- rooms is kept: within a script the clock stands still, and it may be set back.
local function open(room)
  local time = redis.call('TIME')
  local highest = tonumber(redis.call('HGET', versions, '') or 0)
  local start = math.max(time[1] * 1000000 + time[2], highest + 1)
  redis.call('HSET', versions, room.field, string.format('%.0f', start - 1))
  redis.call('HINCRBY', namespaces, room.namespace, 1)
end

-- Remove a room after its last connection.
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

-- Set the data of a user. Returns whether it has changed.
local function set_data(room, user, data)
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

-- Count one more connection. `data` is nil if the connection sets no data.
local function add(room, index, user, data)
  if redis.call('HINCRBY', room.counts, 'c', 1) == 1 then
    open(room)
  end
  if user == '' then
    local guests = redis.call('HINCRBY', room.counts, 'g', 1)
    rank(room, 1)
    record(room, index, { guests == 1 and 'joined' or 'changed', '', guests })
    return
  end
  local connections = redis.call('HINCRBY', room.counts, 'u' .. user, 1)
  if connections == 1 then
    redis.call('HINCRBY', room.counts, 'n', 1)
    rank(room, 1)
    if data and data ~= '' then
      redis.call('HSET', room.data, user, data)
    end
    record(room, index, { 'joined', user, 1 })
  elseif data and set_data(room, user, data) then
    record(room, index, { 'changed', user, connections })
  end
end

-- Count fewer connections. `times` has the number of removed connections of each user.
local function remove(room, index, users, times)
  local fields, connections = {}, 0
  for i, user in ipairs(users) do
    fields[i] = user == '' and 'g' or 'u' .. user
    connections = connections + times[user]
  end
  local counts = redis.call('HMGET', room.counts, unpack(fields))
  local changed, gone, empty, fewer = {}, {}, {}, 0
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
      local at = #changed
      changed[at + 1], changed[at + 2], changed[at + 3] = left > 0 and 'changed' or 'left', user, left
    end
  end
  if #changed > 0 then
    record(room, index, changed)
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
