-- Rooms of a namespace after a place in their list, those with most users first.
--
-- KEYS: 1 list. ARGV: 1 how many, 2 users and 3 name of the room at that place; without them, from the beginning.
--
-- Many rooms have equally many users, and the one at the place may be gone: the next one is sought by halves.

-- The list goes by bytes, but `<` by the locale.
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
