-- Read what operators see of a room.
--
-- KEYS and ARGV: see room.lua.
--
-- Returns epoch and offset, the numbers of entries and values, the bytes of both, and the time of the oldest, or -1.

open_room(0)
local first, bytes, oldest = entry_from(0), 0, -1
if first then
  bytes, oldest = room.bytes - first.bytes, first.time
  for _, found in ipairs(redis.call('ZRANGEBYSCORE', forgotten, '(' .. text(first.offset), '+inf')) do
    bytes = bytes - string.match(found, '^%d+')
  end
end
local key = redis.call('ZRANGE', order, 0, 0)[1]
local value = key and value_of(key)
if value and (oldest < 0 or value.time < oldest) then
  oldest = value.time
end
keep()
return {
  room.epoch, room.offset, redis.call('XLEN', entries), redis.call('ZCARD', order), bytes + room.size, oldest,
}
