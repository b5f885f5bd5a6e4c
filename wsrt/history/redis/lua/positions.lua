-- Read the positions of rooms.
--
-- KEYS: those of room.lua for each room. ARGV: see room.lua.
--
-- Returns epoch and offset of each room, and the id of the last publication, or "".

local positions = {}
for others = 0, #KEYS - 1, 4 do
  open(others)
  if room.direct == 1 then
    -- Without publications that a script adds, and without readers, nothing else removes them.
    expire_entries()
  end
  keep()
  local at = #positions
  positions[at + 1], positions[at + 2], positions[at + 3] = room.epoch, room.offset, room.id
end
return positions
