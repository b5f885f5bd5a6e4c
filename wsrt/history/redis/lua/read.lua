-- Read the publications after a position.
--
-- KEYS: see room.lua. ARGV: see room.lua; then 5 epoch and 6 offset of the position, 7 the most publications, 8 the most bytes.
--
-- Returns epoch and offset of the room, the offset after which the publications are complete, the gap or "", whether a limit
-- has cut them off, and offset, id, event, data, time and key of each publication. An entry has "e" instead of a key, and a
-- value "v" before it.

open_room(0)
-- Few, because they may be long.
local PAGE = 4

local offset, limit, budget = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local gap = ''
if ARGV[5] ~= room.epoch or offset > room.offset then
  gap, offset = 'epoch', floor()
elseif offset < floor() then
  gap = offset < room.trimmed and 'trimmed' or 'expired'
  offset = floor()
end

-- Two lists by offset, read in pages, of which the lower one comes next.

local function pages_of(read)
  local page, at, last, is_read = {}, 1, offset, false
  return function()
    if not page[at] and not is_read then
      page, at = read(last), 1
      is_read = #page == 0
    end
    return page[at]
  end, function()
    last = page[at].offset
    at = at + 1
  end
end

local next_entry, drop_entry = pages_of(function(last)
  local page = redis.call('XRANGE', entries, '(' .. id_of(last), '+', 'COUNT', PAGE)
  for i, item in ipairs(page) do
    page[i] = parse(item, true)
  end
  return page
end)

local next_value, drop_value = pages_of(function(last)
  local page = {}
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', order, '(' .. text(last), '+inf', 'LIMIT', 0, PAGE)) do
    page[#page + 1] = value_of(key, true)
  end
  return page
end)

local found, is_cut = {}, 0
while true do
  local entry, value = next_entry(), next_value()
  local first, drop = entry, drop_entry
  if value and (not entry or value.offset < entry.offset) then
    first, drop = value, drop_value
  end
  if not first then
    break
  end
  budget = budget - first.size
  if #found > 0 and (#found == 6 * limit or budget < 0) then
    is_cut = 1
    break
  end
  local at = #found
  found[at + 1], found[at + 2], found[at + 3] = first.offset, first.id, first.event
  found[at + 4], found[at + 5], found[at + 6] = first.data, first.time, first.key and 'v' .. first.key or 'e'
  drop()
end
keep()
return { room.epoch, room.offset, offset, gap, is_cut, found }
