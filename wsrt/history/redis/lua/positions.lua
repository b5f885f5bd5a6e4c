-- Read the positions of rooms.
--
-- KEYS: those of room.lua for each room. ARGV: see room.lua.
--
-- Returns epoch and offset of each room, the id of the last publication or "", and 1 if publishers may add entries directly.

local MOST_EXPIRED = 10
local positions, expired = {}, 0
for others = 0, #KEYS - 1, 4 do
  open(others)
  if room.direct > 0 and expired < MOST_EXPIRED then
    -- Where no script appends, and nothing is read, only this removes the entries that are too old.
    expired = expired + (expire_entries() and 1 or 0)
  end
  keep()
  local at = #positions
  positions[at + 1], positions[at + 2], positions[at + 3] = room.epoch, room.offset, room.id
  positions[at + 4] = room.direct > 0 and 1 or 0
end
return positions
