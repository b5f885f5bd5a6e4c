-- Read what operators see of a room.
--
-- KEYS and ARGV: see room.lua.
--
-- Returns epoch and offset, the numbers of entries and values, the bytes of both, and the time of the oldest, or -1. The bytes of
-- very many entries are estimated.

open_room(0)
local MOST, MOST_BYTES, MOST_OF_A_PAGE = 500, 256 * 1024, 64
local bytes, oldest, number = 0, -1, redis.call('XLEN', entries)
-- The first page is short, because entries may be long.
local read, size, last = 0, 4, nil
local page = redis.call('XRANGE', entries, '-', '+', 'COUNT', size)
while page[1] do
  for _, item in ipairs(page) do
    last = parse(item)
    bytes = bytes + last.size
    oldest = oldest < 0 and last.time or oldest
  end
  read = read + #page
  if read >= MOST or bytes >= MOST_BYTES then
    -- Those that weren't read have the same size on average.
    bytes = math.floor(bytes * number / read)
    break
  end
  size = math.min(2 * size, MOST_OF_A_PAGE)
  page = redis.call('XRANGE', entries, '(' .. id_of(last.offset), '+', 'COUNT', size)
end
local key = redis.call('ZRANGE', order, 0, 0)[1]
local value = key and value_of(key)
if value and (oldest < 0 or value.time < oldest) then
  oldest = value.time
end
keep()
return { room.epoch, room.offset, number, redis.call('ZCARD', order), bytes + room.size, oldest }
