-- Put down in which rooms a node has connections, before it has any: whoever reaps it finds them all.
--
-- KEYS: 1 leases, 2 rooms of the node. ARGV: 1 node, 2 mark; then rooms.
--
-- Returns whether the node may.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then
  return 0
end
for i = 3, #ARGV do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[2])
end
return 1
