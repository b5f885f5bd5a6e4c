-- Read what operators see of a room.
--
-- KEYS and ARGV: see room.lua.
--
-- Returns epoch and offset, the numbers of entries and values, the bytes of both, and the time of the oldest, or -1. The bytes of
-- more than MOST entries are estimated.

open_room(0)
local MOST = 500
local bytes, oldest, number = 0, -1, redis.call('XLEN', entries)
local page = redis.call('XRANGE', entries, '-', '+', 'COUNT', MOST)
for i, item in ipairs(page) do
  page[i] = parse(item)
  bytes = bytes + size_of(page[i])
end
if page[1] then
  oldest = page[1].time
  -- Those that weren't read have the same size on average.
  bytes = math.floor(bytes * number / #page)
end
local key = redis.call('ZRANGE', order, 0, 0)[1]
local value = key and value_of(key)
if value and (oldest < 0 or value.time < oldest) then
  oldest = value.time
end
keep()
return { room.epoch, room.offset, number, redis.call('ZCARD', order), bytes + room.size, oldest }
