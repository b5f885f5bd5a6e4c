-- Append publications to a room, in order.
--
-- KEYS: see room.lua; then the keys of the idempotency keys, in the order of the publications that have one.
-- ARGV: see room.lua; then 4 the most entries, 5 how many more there may be before they are trimmed, 6 the most values,
--   7 milliseconds that idempotency keys are remembered; then for each publication: "e" for an entry or "v" for a value,
--   followed by "i" if it has an idempotency key; id, event, data, and the key of a value or "".
--
-- Returns the epoch and the offset of each publication, in one string, separated by spaces: a client reads it in a fraction of
-- the time of a list. If an earlier publication had the same idempotency key as one of them, a list: this string; then for
-- each of these its number among the publications, and the id of the earlier one.

open_room()
local most, slack, most_values, remembered = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local results, repeats, identity = { room.epoch }, {}, 5
local has_entries, has_values = false, false
local time = math.max(now, room.time)

local function add_entry(id, event, data)
  redis.call(
    'XADD', entries, text(room.offset), 'i', id, 'e', event, 'd', data, 't', text(time), 'b', text(room.bytes),
    'p', text(room.offset - room.last)
  )
  room.last = room.offset
  room.bytes = room.bytes + #event + #data
  if room.since == 0 then
    room.since = time
  end
  has_entries = true
end

local function set_value(id, event, data, key)
  local old = value_of(key)
  if old then
    room.size = room.size - size_of(old)
  end
  local head = text(room.offset) .. ':' .. text(time) .. ':' .. #id .. ':' .. #event .. ':'
  redis.call('HSET', values, key, head .. id .. event .. data)
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

for at = 8, #ARGV, 5 do
  local kind, id, event, data, key = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local offset, earlier
  if string.sub(kind, 2) == 'i' then
    identity = identity + 1
    local known = redis.call('GET', KEYS[identity])
    local epoch, its_offset, its_id = string.match(known or '', '^(.-):(%d+):(.*)$')
    -- Of another epoch, it says nothing.
    if epoch == room.epoch then
      offset, earlier = tonumber(its_offset), its_id
    end
  end
  if not offset then
    room.offset, room.id = room.offset + 1, id
    offset = room.offset
    if string.sub(kind, 1, 1) == 'e' then
      add_entry(id, event, data)
    else
      set_value(id, event, data, key)
    end
    if string.sub(kind, 2) == 'i' then
      redis.call('SET', KEYS[identity], room.epoch .. ':' .. text(offset) .. ':' .. id, 'PX', remembered)
    end
  end
  results[#results + 1] = text(offset)
  if earlier then
    repeats[#repeats + 1], repeats[#repeats + 2] = (at - 8) / 5, earlier
  end
end

room.time = time
if has_entries then
  if redis.call('XLEN', entries) > most + slack then
    redis.call('XTRIM', entries, 'MAXLEN', most)
    local first = entry_from(0)
    room.trimmed = math.max(room.trimmed, skip_forgotten(first.before))
    advance(first)
  end
  redis.call('PEXPIRE', entries, text(time - now + entries_kept))
end
if has_values then
  redis.call('PEXPIRE', values, text(time - now + values_kept))
  redis.call('PEXPIRE', order, text(time - now + values_kept))
end
is_changed = true
keep()
results = table.concat(results, ' ')
return repeats[1] and { results, unpack(repeats) } or results
