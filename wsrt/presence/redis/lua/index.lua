-- Add rooms to the index of a node. The node does so before it joins them, so that a reaper finds all its rooms.
--
-- KEYS: 1 leases, 2 index of the node. ARGV: 1 node, 2 mark; then rooms.
--
-- Returns 1, or 0 if the node's lease has ended.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then
  return 0
end
for i = 3, #ARGV do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[2])
end
return 1
