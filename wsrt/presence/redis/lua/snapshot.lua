-- Read a room at one moment.
--
-- KEYS: 1 counts, 2 versions. ARGV: 1 field of the room, 2 the most members to return.
--
-- Returns version and counts; and all counts by member, unless there are too many. The members' data may be long, so it
-- is read afterwards in batches. Changes that set it in between have later versions.

local version = redis.call('HGET', KEYS[2], ARGV[1])
local counts = redis.call('HMGET', KEYS[1], 'n', 'g', 'c')
local members = (counts[1] or 0) + math.min(counts[2] or 0, 1)
if members > tonumber(ARGV[2]) then
  return { version, counts }
end
return { version, counts, redis.call('HGETALL', KEYS[1]) }
