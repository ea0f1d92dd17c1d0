-- Purpose: list messages of a lane for operators.
-- KEYS: lane, messages, states.
-- ARGV: position after which to begin, limit, 1 if pending ones are wanted, 1 if
-- delivered ones are, bytes that a message must contain (empty: none), how many
-- messages to look at.
-- Result: now, the position that was reached (-1: the end), the entries: see
-- entry.lua.
-- Atomicity: reads only.
--#include clock
--#include state
--#include entry
--#include pages
local cursor, limit, look = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[6])
local n, size = 0, 0
while look > 0 do
  local rows = read_page(KEYS[2], cursor, look)
  if #rows == 0 then
    cursor = -1
    break
  end
  look = look - #rows
  for i = 1, #rows do
    cursor = position_of(rows[i])
    if ARGV[5] == '' or string.find(body_of(rows[i]), ARGV[5], 1, true) then
      local state = redis.call('HGET', KEYS[3], cursor)
      if ARGV[has(read_state(state), DELIVERED) and 4 or 3] == '1' then
        n, size = n + 1, size + pack_entry(rows[i], state)
        if n == limit or size > 4194304 then
          look = 0
          break
        end
      end
    end
  end
end
return {now, cursor, packed_entries()}
