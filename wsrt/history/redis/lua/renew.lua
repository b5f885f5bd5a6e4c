-- Begin a new sequence in a room.
--
-- KEYS: see room.lua. ARGV: see room.lua; then 5 the epoch that the room must have, or "" for any.
--
-- Returns epoch and offset of the room.

open_room(0)
if ARGV[5] == '' or ARGV[5] == room.epoch then
  start(0)
end
keep()
return { room.epoch, room.offset }
