-- A room at one moment.
--
-- KEYS: 1 counts, 2 versions. ARGV: 1 the room's field, 2 most members.
--
-- Returns version and counts; and, if they are not too many, members. What is shown of them is long, and read after
-- this, in parts: what changed it meanwhile has a later version.

local version = redis.call('HGET', KEYS[2], ARGV[1])
local counts = redis.call('HMGET', KEYS[1], 'n', 'g', 'c')
local members = (counts[1] or 0) + math.min(counts[2] or 0, 1)
if members > tonumber(ARGV[2]) then
  return { version, counts }
end
return { version, counts, redis.call('HGETALL', KEYS[1]) }
