-- Connections of one user among those of a node in a room: a page is looked through.
--
-- KEYS: 1 numbers. ARGV: 1 cursor, 2 about how many to look at, 3 user.
--
-- Returns the next cursor, and numbers.

local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = {}
for i = 1, #page[2], 2 do
  if page[2][i + 1] == ARGV[3] then
    found[#found + 1] = page[2][i]
  end
end
return { page[1], found }
