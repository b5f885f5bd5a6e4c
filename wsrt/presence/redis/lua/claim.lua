-- Claim the reaping of a node, or renew the claim. Fences the node permanently.
--
-- KEYS: 1 claim, 2 leases, 3 index of the node.
-- ARGV: 1 node, 2 id of the reaper, 3 validity of the claim in ms; then rooms that are finished.
--
-- Returns 1, or 0 if another reaper has the claim.

local claimed_by = redis.call('GET', KEYS[1])
if claimed_by and claimed_by ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
-- With a lease that ended at time 0, the node can neither renew it nor add rooms to its index.
redis.call('ZADD', KEYS[2], 'XX', 0, ARGV[1])
for i = 4, #ARGV do
  redis.call('HDEL', KEYS[3], ARGV[i])
end
return 1
