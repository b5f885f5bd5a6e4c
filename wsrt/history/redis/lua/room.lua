-- The keys of a room, and functions that open it and remove what is too old. Prepended to the other scripts.
--
-- KEYS: 1 state, 2 entries, 3 values, 4 order, 5 forgotten. Of several rooms, if a script says so.
-- ARGV: 1 a random epoch for a room that has none, 2 milliseconds that entries are kept, 3 milliseconds that values are kept.
--
--   state      STRING  separated by spaces, as one command reads all of it and another one writes it with its end:
--                      epoch, of the sequence
--                      offset, of the last publication
--                      trimmed, the highest offset of an entry that was removed because there were too many
--                      expired, the highest offset of an entry that was removed because of its age
--                      last, the offset of the last entry that wasn't forgotten
--                      bytes, of all entries that the epoch has had
--                      since, a time not after that of the first entry that is kept; 0 if none is
--                      front: no entry below this offset is kept; each was removed or forgotten
--                      time, of the last publication
--                      values, a time not after that of the first value that is kept; 0 if none is
--                      size, the bytes of the values that are kept
--                      id, of the last publication, also if it isn't kept any more. It may contain anything
--   entries    STREAM  offset -> i id, e event, d data, t time, b bytes of the entries before it, p how far the entry before
--                      it is behind
--   values     HASH    key -> offset:time:bytes of the id:bytes of the event: id event data
--   order      ZSET    key -> offset
--   forgotten  ZSET    bytes:offset of the entry before it -> offset. Of entries that were forgotten, from `front` on
--
-- All times are milliseconds since 1970 by the clock of Redis. The clock may be set back, but the times of publications don't
-- go back. Lua writes integers above 10^14 in another form, so they are formatted explicitly.

local state, entries, values, order, forgotten
local entries_kept, values_kept = tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local room, is_changed = {}, false

local function text(number)
  return string.format('%.0f', number)
end

local function save()
  is_changed = false
  local packed = string.format(
    '%s %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f', room.epoch, room.offset, room.trimmed, room.expired, room.last,
    room.bytes, room.since, room.front, room.time, room.values, room.size
  )
  redis.call('SET', state, packed .. ' ' .. room.id, 'PX', ARGV[3])
end

-- Save what has changed, and note that the room is used.
local function keep()
  if is_changed then
    save()
  else
    redis.call('PEXPIRE', state, ARGV[3])
  end
end

-- Begin a sequence, with nothing in it. A call that begins several rooms gives each an epoch of its own.
local function start(others)
  redis.call('UNLINK', entries, values, order, forgotten)
  room = {
    epoch = ARGV[1] .. others, offset = 0, trimmed = 0, expired = 0, last = 0, bytes = 0, since = 0, front = 0, time = 0, values = 0,
    size = 0, id = '',
  }
  is_changed = true
end

local function floor()
  return math.max(room.trimmed, room.expired)
end

-- Return the fields of an entry of the stream.
local function parse(item)
  local fields, offset = item[2], tonumber(string.match(item[1], '^%d+'))
  return {
    offset = offset, id = fields[2], event = fields[4], data = fields[6], time = tonumber(fields[8]),
    bytes = tonumber(fields[10]), before = offset - fields[12],
  }
end

-- Return the first entry from an offset on, or nil.
local function entry_from(offset)
  local found = redis.call('XRANGE', entries, text(offset), '+', 'COUNT', 1)
  return found[1] and parse(found[1])
end

-- Return the bytes of a forgotten entry, and the offset of the one before it; nil if the entry wasn't forgotten.
local function forgotten_at(offset)
  local found = redis.call('ZRANGEBYSCORE', forgotten, text(offset), text(offset))
  if found[1] then
    local bytes, before = string.match(found[1], '^(%d+):(%d+)$')
    return tonumber(bytes), tonumber(before)
  end
end

-- Return the highest offset, up to the given one, of an entry that is kept or was removed; not of one that was forgotten.
local function skip_forgotten(offset)
  while offset >= room.front and offset > floor() do
    local _, before = forgotten_at(offset)
    if not before then
      return offset
    end
    offset = before
  end
  return floor()
end

-- Forget what was known about entries below those that are kept.
local function advance(first)
  is_changed = true
  room.since = first and first.time or 0
  room.front = first and first.offset or room.offset + 1
  redis.call('ZREMRANGEBYSCORE', forgotten, '-inf', '(' .. text(room.front))
end

-- Return key, offset, time, id, event and data of a value, or nil.
local function value_of(key)
  local packed = redis.call('HGET', values, key)
  if packed then
    local offset, time, id, event, at = string.match(packed, '^(%d+):(%d+):(%d+):(%d+):()')
    local middle, last = at + id, at + id + event
    return {
      key = key, offset = tonumber(offset), time = tonumber(time), id = string.sub(packed, at, middle - 1),
      event = string.sub(packed, middle, last - 1), data = string.sub(packed, last),
    }
  end
end

local function size_of(publication)
  return #publication.event + #publication.data
end

local function remove_value(key)
  local value = value_of(key)
  redis.call('HDEL', values, key)
  redis.call('ZREM', order, key)
  room.size = room.size - (value and size_of(value) or 0)
end

-- Remove the entries that are too old. The key also ends by itself; then all of them were.
local function expire_entries()
  local limit = now - entries_kept
  if room.since == 0 or room.since > limit and redis.call('EXISTS', entries) == 1 then
    return
  end
  local first = entry_from(0)
  if first and first.time > limit then
    room.since, is_changed = first.time, true
    return
  end
  local low, high = first and first.offset + 1 or room.offset + 1, room.offset + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = entry_from(middle)
    if found and found.time <= limit then
      low = found.offset + 1
    else
      high = middle
    end
  end
  first = entry_from(low)
  -- The highest entry that is removed: the one before the first that stays, or the last one.
  room.expired = math.max(room.expired, skip_forgotten(first and first.before or room.last))
  redis.call('XTRIM', entries, 'MINID', text(low))
  advance(first)
end

local function expire_values()
  local limit = now - values_kept
  if room.values == 0 or room.values > limit then
    return
  end
  room.values, is_changed = 0, true
  for _, key in ipairs(redis.call('ZRANGE', order, 0, -1)) do
    local value = value_of(key)
    if value and value.time > limit then
      room.values = value.time
      return
    end
    remove_value(key)
  end
  -- Also if the keys have ended by themselves.
  room.size = 0
end

-- Open the room whose keys follow the given number of others. It is begun if it isn't known.
local function open(others)
  state, entries, values = KEYS[others + 1], KEYS[others + 2], KEYS[others + 3]
  order, forgotten = KEYS[others + 4], KEYS[others + 5]
  local packed = redis.call('GET', state)
  if not packed then
    return start(others)
  end
  local epoch, offset, trimmed, expired, last, bytes, since, front, time, its_values, size, id = string.match(
    packed, '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$'
  )
  if not epoch then
    -- Another version has written it, in a format that this one can't read.
    return start(others)
  end
  room = {
    epoch = epoch, offset = tonumber(offset), trimmed = tonumber(trimmed), expired = tonumber(expired),
    last = tonumber(last), bytes = tonumber(bytes), since = tonumber(since), front = tonumber(front),
    time = tonumber(time), values = tonumber(its_values), size = tonumber(size), id = id,
  }
end

-- Return whether values are missing that aren't too old: Redis has evicted one of their keys, or both.
local function has_lost_values()
  if room.size == 0 then
    return false
  end
  local number = redis.call('ZCARD', order)
  return number == 0 or redis.call('HLEN', values) ~= number
end

-- Open a room, without what is too old. If it has lost values, nothing says which: its sequence begins again.
local function open_room(others)
  open(others)
  expire_entries()
  expire_values()
  if has_lost_values() then
    start(others)
  end
end
