-- Read the last value of each key, the newest first.
--
-- KEYS: see room.lua. ARGV: see room.lua; then 5 the most values, 6 the most bytes.
--
-- Returns epoch and offset of the room, whether a limit has cut the values off, and for each value what read.lua returns.

open_room(0)
local limit, budget = tonumber(ARGV[5]), tonumber(ARGV[6])
local found, is_cut = {}, 0
for _, key in ipairs(redis.call('ZREVRANGE', order, 0, limit)) do
  local value = value_of(key, true)
  budget = budget - value.size
  if #found > 0 and (#found == 6 * limit or budget < 0) then
    is_cut = 1
    break
  end
  local at = #found
  found[at + 1], found[at + 2], found[at + 3] = value.offset, value.id, value.event
  found[at + 4], found[at + 5], found[at + 6] = value.data, value.time, 'v' .. key
end
keep()
return { room.epoch, room.offset, is_cut, found }
