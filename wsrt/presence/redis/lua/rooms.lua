-- List rooms of a namespace, the largest first, after a given room.
--
-- KEYS: 1 list. ARGV: 1 the most rooms to return, 2 size and 3 name of the given room. Without 2 and 3, from the beginning.
--
-- Many rooms may have the same size, and the given room may not be in the list any more. So its place among the rooms of
-- its size is found by binary search.

-- Compare like the list, which is sorted by bytes. The operator `<` compares by locale.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local first = 0
if ARGV[2] then
  first = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf')
  local last = first + redis.call('ZCOUNT', KEYS[1], ARGV[2], ARGV[2])
  while first < last do
    local middle = math.floor((first + last) / 2)
    if is_before(redis.call('ZREVRANGE', KEYS[1], middle, middle)[1], ARGV[3]) then
      last = middle
    else
      first = middle + 1
    end
  end
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[1] - 1, 'WITHSCORES')
