-- The keys of a room, and functions that open it and remove what is too old. Prepended to the other scripts.
--
-- KEYS: 1 state, 2 entries, 3 values, 4 order. Of several rooms, if a script says so.
-- ARGV: 1 a random number below a million, 2 milliseconds that entries are kept, 3 milliseconds that values are kept, 4
--   milliseconds after which no entries arrive any more that publishers were allowed to add directly.
--
--   state    STRING  packed values:
--                    form, the version of this list
--                    epoch, of the sequence: a time in milliseconds, followed by a random number of six digits
--                    offset, of the last publication
--                    trimmed, the highest offset of an entry that was removed because there were too many
--                    expired, the highest offset of an entry that was removed because of its age
--                    last, the offset of the last entry that wasn't forgotten
--                    since, a time not after that of the first entry that is kept; 0 if none is
--                    time, of the last publication
--                    values, a time not after that of the first value that is kept; 0 if none is
--                    size, the bytes of the values that are kept
--                    direct, until when publishers may add entries directly; 0 if everything that they have added is known
--                    id, of the last publication, also if it isn't kept any more. It may contain anything
--   entries  STREAM  epoch-offset -> p time:bytes of the id:bytes of the event: id event data
--   values   HASH    key -> offset: time:bytes of the id:bytes of the event: id event data
--   order    ZSET    key -> offset
--
-- Where publishers may add entries directly, without a script (direct.py), the state lacks the last ones until a script opens
-- the room; the last id of the stream is the last offset. So the stream is kept as long as the state meanwhile: with it, the
-- last offset would be lost, and offsets would be given out again.
--
-- All times are milliseconds since 1970 by the clock of Redis. The clock may be set back, but the times of publications don't
-- go back. Lua writes integers above 10^14 in another form, so they are formatted explicitly.

local FORM = 1

local state, entries, values, order
local entries_kept, values_kept = tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local room, is_changed = {}, false
-- Whether the open room has no stream.
local is_gone

local function text(number)
  return string.format('%.0f', number)
end

-- Return the id of an entry in the stream.
local function id_of(offset)
  return room.epoch .. '-' .. text(offset)
end

-- Return the milliseconds for which the state is kept. Entries that are added directly don't prolong it. So it is kept a
-- quarter longer, and a publisher adds no more of them when so much time has passed since its last call of a script.
local function state_kept()
  return text(room.direct > 0 and 1.25 * values_kept or values_kept)
end

-- Return the milliseconds for which the stream is kept.
local function stream_kept()
  return room.direct > 0 and state_kept() or text(math.max(1, room.time - now + entries_kept))
end

local function save()
  is_changed = false
  local packed = cmsgpack.pack(
    FORM, room.epoch, room.offset, room.trimmed, room.expired, room.last, room.since, room.time, room.values, room.size,
    room.direct, room.id
  )
  redis.call('SET', state, packed, 'PX', state_kept())
end

-- Save what has changed, and note that the room is used.
local function keep()
  if is_changed then
    save()
  else
    redis.call('PEXPIRE', state, state_kept())
  end
  if room.direct > 0 then
    redis.call('PEXPIRE', entries, state_kept())
  end
end

-- Begin a sequence, with nothing in it. Epochs of a room ascend, as the ids in a stream have to. A call that begins several
-- rooms gives each an epoch of its own.
local function start(others)
  redis.call('UNLINK', entries, values, order)
  local before = room.epoch and tonumber(string.sub(room.epoch, 1, -7)) or 0
  room = {
    epoch = text(math.max(now, before + 1)) .. string.format('%06d', (ARGV[1] + others) % 1000000),
    offset = 0, trimmed = 0, expired = 0, last = 0, since = 0, time = 0, values = 0, size = 0, direct = 0, id = '',
  }
  is_changed, is_gone = true, true
end

local function floor()
  return math.max(room.trimmed, room.expired)
end

-- Return a publication, which is packed from a place on; without event and data unless it is needed whole, as they may be long.
local function fields_of(packed, from, is_whole)
  local time, id, event, at = string.match(packed, '^(%d+):(%d+):(%d+):()', from)
  local middle, last = at + id, at + id + event
  local fields = { time = tonumber(time), id = string.sub(packed, at, middle - 1), size = #packed - middle + 1 }
  if is_whole then
    fields.event, fields.data = string.sub(packed, middle, last - 1), string.sub(packed, last)
  end
  return fields
end

-- Return an entry of the stream.
local function parse(item, is_whole)
  local entry, epoch, offset = fields_of(item[2][2], 1, is_whole), string.match(item[1], '^(%d+)-(%d+)$')
  entry.epoch, entry.offset = epoch, tonumber(offset)
  return entry
end

-- Return the first entry from an offset on, or nil.
local function entry_from(offset)
  local found = redis.call('XRANGE', entries, id_of(offset), '+', 'COUNT', 1)
  return found[1] and parse(found[1])
end

-- Return the last entry up to an id, or nil.
local function entry_up_to(id)
  local found = redis.call('XREVRANGE', entries, id, '-', 'COUNT', 1)
  return found[1] and parse(found[1])
end

-- Note the entries that publishers have added directly.
local function adopt(others)
  -- Not XRANGE, so that the counters of Redis tell this apart from reading the history.
  local found = redis.call('XREAD', 'COUNT', 1, 'STREAMS', entries, id_of(room.offset))
  if found then
    local last = entry_up_to('+')
    if last.epoch ~= room.epoch then
      -- After a failover, a publisher that knew a later epoch has added it to this one.
      return start(others)
    end
    if room.since == 0 then
      room.since = parse(found[1][2][1]).time
    end
    room.offset, room.last, room.id = last.offset, last.offset, last.id
    room.time, is_changed = math.max(room.time, last.time), true
    if room.direct == 0 then
      -- A failover has lost that they may.
      room.direct = now + ARGV[4]
    end
  else
    is_gone = redis.call('EXISTS', entries) == 0
    if is_gone and room.direct > 0 then
      -- Redis has evicted the stream, and nothing tells the last offset.
      return start(others)
    end
  end
  if room.direct > 0 and now > room.direct then
    room.direct, is_changed = 0, true
    redis.call('PEXPIRE', entries, stream_kept())
  end
end

-- Return the value of a key, or nil.
local function value_of(key, is_whole)
  local packed = redis.call('HGET', values, key)
  if packed then
    local offset, at = string.match(packed, '^(%d+):()')
    local value = fields_of(packed, at, is_whole)
    value.key, value.offset = key, tonumber(offset)
    return value
  end
end

local function remove_value(key)
  local value = value_of(key)
  redis.call('HDEL', values, key)
  redis.call('ZREM', order, key)
  room.size = room.size - (value and value.size or 0)
end

-- Remove the entries that are too old, and return whether there were any. The key also ends by itself; then all of them were.
local function expire_entries()
  local limit = now - entries_kept
  if room.since == 0 or room.since > limit and not is_gone then
    return false
  end
  is_changed = true
  local first = entry_from(0)
  if first and first.time > limit then
    room.since = first.time
    return false
  end
  -- The first offset from which on all entries are kept.
  local low, high = first and room.time > limit and first.offset + 1 or room.offset + 1, room.offset + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = entry_from(middle)
    if found and found.time <= limit then
      low = found.offset + 1
    else
      high = middle
    end
  end
  local removed = first and entry_up_to(id_of(low - 1))
  room.expired = math.max(room.expired, removed and removed.offset or room.last)
  first = entry_from(low)
  -- Also if all are removed: an empty stream still has the last offset.
  redis.call('XTRIM', entries, 'MINID', id_of(low))
  room.since = first and first.time or 0
  return true
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
  state, entries, values, order = KEYS[others + 1], KEYS[others + 2], KEYS[others + 3], KEYS[others + 4]
  room, is_changed, is_gone = {}, false, false
  local packed = redis.call('GET', state)
  if not packed then
    return start(others)
  end
  local is_whole, form, epoch, offset, trimmed, expired, last, since, time, its_values, size, direct, id = pcall(
    cmsgpack.unpack, packed
  )
  if not is_whole or form ~= FORM then
    -- Another version has written it, in a form that this one can't read.
    return start(others)
  end
  room = {
    epoch = epoch, offset = offset, trimmed = trimmed, expired = expired, last = last, since = since, time = time,
    values = its_values, size = size, direct = direct, id = id,
  }
  adopt(others)
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
