-- Find the connections of one user in a page of a node's connections in a room.
--
-- KEYS: 1 numbers. ARGV: 1 cursor, 2 the approximate number of connections on the page, 3 user.
--
-- Returns the next cursor, and the numbers of the user's connections.

local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = {}
for i = 1, #page[2], 2 do
  if page[2][i + 1] == ARGV[3] then
    found[#found + 1] = page[2][i]
  end
end
return { page[1], found }
