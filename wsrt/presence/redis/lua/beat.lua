-- Begin or renew the lease of a node.
--
-- KEYS: 1 leases, 2 facts, 3 index of the node.
-- ARGV: 1 node, 2 lease in ms, 3 facts, 4 "begin" or "renew", 5 the number of rooms that the index should have; then pairs
-- of a room to remove from the index and its mark.
--
-- Returns false if the node is fenced; else whether rooms are missing in the index, the ms until the next lease of another
-- node ends (-1 if there is none), and up to 16 nodes whose lease has ended.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ends and tonumber(ends) <= now or not ends and ARGV[4] ~= 'begin' then
  return false
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])

for i = 6, #ARGV, 2 do
  -- The mark differs if the room was added again since: a call that arrives late must not remove the new entry.
  if redis.call('HGET', KEYS[3], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
end
local is_missing = redis.call('HLEN', KEYS[3]) < tonumber(ARGV[5])

local next_end = -1
local leases = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 2)
for i = 1, #leases, 2 do
  if leases[i] ~= ARGV[1] and next_end < 0 then
    next_end = leases[i + 1] - now
  end
end
return { is_missing and 1 or 0, next_end, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 16) }
