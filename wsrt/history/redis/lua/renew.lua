-- Begin a new sequence in a room.
--
-- KEYS: see room.lua. ARGV: see room.lua; then 4 the epoch that the room must have, or "" for any.
--
-- Returns epoch and offset of the room.

open_room(0)
if ARGV[4] == '' or ARGV[4] == room.epoch then
  start(0)
end
keep()
return { room.epoch, room.offset }
