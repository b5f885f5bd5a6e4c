-- Read what operators see of a room.
--
-- KEYS and ARGV: see room.lua.
--
-- Returns epoch and offset, the numbers of entries and values, the bytes of both, and the time of the oldest, or -1. The bytes of
-- very many entries are estimated.

open_room(0)
-- Few on a page, because they may be long.
local PAGE, MOST, MOST_BYTES = 4, 200, 256 * 1024
local bytes, oldest, number = 0, -1, redis.call('XLEN', entries)
local read, page, last = 0, redis.call('XRANGE', entries, '-', '+', 'COUNT', PAGE), nil
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
  page = redis.call('XRANGE', entries, '(' .. id_of(last.offset), '+', 'COUNT', PAGE)
end
local key = redis.call('ZRANGE', order, 0, 0)[1]
local value = key and value_of(key)
if value and (oldest < 0 or value.time < oldest) then
  oldest = value.time
end
keep()
return { room.epoch, room.offset, number, redis.call('ZCARD', order), bytes + room.size, oldest }
