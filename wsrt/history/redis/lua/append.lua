-- Append publications to rooms, in order.
--
-- KEYS: for each room those of room.lua, then those of the idempotency keys, in the order of its publications that have one.
-- ARGV: see room.lua; then 5 the most entries, 6 how many more there may be before they are trimmed, 7 the most values,
--   8 milliseconds that idempotency keys are remembered; then for each room the number of its publications, and "d" if the
--   publisher wants to add further entries directly, or ""; followed by five for each of these publications: "e" for an
--   entry or "v" for a value, with an "i" behind it if there is an idempotency key; id; event; data; and the key of a value
--   or "".
--
-- Returns one string, which a client reads in a fraction of the time of a list: the time, and for each room its epoch, with "+"
-- behind it if the publisher may add entries directly, its last offset, and the offset of each publication, separated by
-- spaces. If an earlier publication had the same idempotency key as one of them, a list: this string; then for each of these
-- its number among all publications, and the id of the earlier one.

local most, slack, most_values, remembered = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
-- Of the open room.
local time, has_entries, has_values

local function packed(id, event, data)
  return text(time) .. ':' .. #id .. ':' .. #event .. ':' .. id .. event .. data
end

local function add_entry(id, event, data)
  redis.call('XADD', entries, id_of(room.offset), 'p', packed(id, event, data))
  room.last = room.offset
  if room.since == 0 then
    room.since = time
  end
  has_entries = true
end

local function set_value(id, event, data, key)
  local old = value_of(key)
  if old then
    room.size = room.size - old.size
  end
  redis.call('HSET', values, key, text(room.offset) .. ':' .. packed(id, event, data))
  redis.call('ZADD', order, text(room.offset), key)
  room.size = room.size + #event + #data
  if redis.call('ZCARD', order) > most_values then
    remove_value(redis.call('ZRANGE', order, 0, 0)[1])
  end
  if room.values == 0 then
    room.values = time
  end
  has_values = true
end

-- Give the next offset to a publication.
local function append(is_entry, id, event, data, key)
  room.offset, room.id = room.offset + 1, id
  if is_entry then
    add_entry(id, event, data)
  else
    set_value(id, event, data, key)
  end
end

-- Return offset and id of the publication that had an idempotency key before; nil if none of this epoch had it.
local function earlier_with(identity)
  local epoch, offset, id = string.match(redis.call('GET', identity) or '', '^(.-):(%d+):(.*)$')
  if epoch == room.epoch then
    return offset, id
  end
end

-- Remove the entries that are too many, once there are enough of them.
local function trim()
  if redis.call('XLEN', entries) > most + slack then
    -- The last one that is removed stays for a moment, as its offset has to be known.
    redis.call('XTRIM', entries, 'MAXLEN', most + 1)
    room.trimmed = math.max(room.trimmed, entry_from(0).offset)
    redis.call('XTRIM', entries, 'MAXLEN', most)
    room.since = entry_from(0).time
  end
end

local function close(is_direct)
  room.time = time
  if is_direct and (has_entries or room.direct > 0) then
    room.direct = math.max(room.direct, now + ARGV[4])
  end
  if has_values then
    if has_entries or not is_gone then
      redis.call('XSETID', entries, id_of(room.offset))
    end
    redis.call('PEXPIRE', values, text(time - now + values_kept))
    redis.call('PEXPIRE', order, text(time - now + values_kept))
  end
  if has_entries or room.direct > 0 then
    trim()
    redis.call('PEXPIRE', entries, stream_kept())
  end
  save()
end

local results, repeats = { text(now) }, {}
local keys, at, number = 0, 9, 0
while ARGV[at] do
  open_room(keys)
  keys = keys + 4
  time, has_entries, has_values = math.max(now, room.time), false, false
  local place = #results + 1
  results[place] = ''
  local first, last = at + 2, at + 1 + 5 * ARGV[at]
  for argument = first, last, 5 do
    local kind, id = ARGV[argument], ARGV[argument + 1]
    local offset, earlier
    if #kind == 2 then
      keys = keys + 1
      offset, earlier = earlier_with(KEYS[keys])
    end
    if offset then
      repeats[#repeats + 1], repeats[#repeats + 2] = number, earlier
    else
      append(string.sub(kind, 1, 1) == 'e', id, ARGV[argument + 2], ARGV[argument + 3], ARGV[argument + 4])
      offset = text(room.offset)
      if #kind == 2 then
        redis.call('SET', KEYS[keys], room.epoch .. ':' .. offset .. ':' .. id, 'PX', remembered)
      end
    end
    results[#results + 1] = offset
    number = number + 1
  end
  close(ARGV[at + 1] == 'd')
  results[place] = room.epoch .. (ARGV[at + 1] == 'd' and room.direct > 0 and '+' or '') .. ' ' .. text(room.offset)
  at = last + 1
end
results = table.concat(results, ' ')
return repeats[1] and { results, unpack(repeats) } or results
