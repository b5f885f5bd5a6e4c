-- Become the one who reaps a node, or stay it; the node is dead from here on.
--
-- KEYS: 1 claim, 2 leases, 3 rooms of the node. ARGV: 1 node, 2 who claims, 3 for how many ms; then rooms that are done.
--
-- Returns whether that is so.

local claimed_by = redis.call('GET', KEYS[1])
if claimed_by and claimed_by ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
-- A lease that ended at the beginning of time: neither renewed nor able to put down rooms.
redis.call('ZADD', KEYS[2], 'XX', 0, ARGV[1])
for i = 4, #ARGV do
  redis.call('HDEL', KEYS[3], ARGV[i])
end
return 1
