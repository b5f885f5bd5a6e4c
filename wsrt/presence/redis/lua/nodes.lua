-- List the nodes.
--
-- KEYS: 1 leases, 2 facts.
--
-- Returns up to 16 nodes whose lease has ended; and for each other node, its id, the ms until its lease ends, its facts.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leases = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES')
local nodes = {}
for i = 1, #leases, 2 do
  nodes[#nodes + 1] = leases[i]
  nodes[#nodes + 1] = leases[i + 1] - now
  nodes[#nodes + 1] = redis.call('HGET', KEYS[2], leases[i]) or '{}'
end
return { redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 16), nodes }
