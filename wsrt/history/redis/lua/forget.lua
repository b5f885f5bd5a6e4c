-- Delete an entry or a value.
--
-- KEYS: see room.lua. ARGV: see room.lua; then 5 the offset, 6 "v" and the key of a value; either may be "".
--
-- Returns the offsets that were deleted.

open_room(0)
local gone, key = {}, string.sub(ARGV[6], 2)
if ARGV[5] ~= '' then
  local offset = tonumber(ARGV[5])
  local entry = entry_from(offset)
  if entry and entry.offset == offset then
    redis.call('XDEL', entries, id_of(offset))
    if room.last == offset then
      local before = entry_up_to(id_of(offset))
      room.last = before and before.offset or floor()
    end
    if redis.call('XLEN', entries) == 0 then
      room.since = 0
    end
    gone[1] = offset
  end
  local found = redis.call('ZRANGEBYSCORE', order, text(offset), text(offset))
  if found[1] then
    remove_value(found[1])
    gone[#gone + 1] = offset
  end
end
if ARGV[6] ~= '' then
  local value = value_of(key)
  if value then
    remove_value(key)
    gone[#gone + 1] = value.offset
  end
end
is_changed = is_changed or #gone > 0
keep()
return gone
