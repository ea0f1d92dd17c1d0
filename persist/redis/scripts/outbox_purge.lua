-- Purpose: delete messages of a lane.
-- KEYS: lane, messages, states, dues, droppable, IDs, totals, the latest.
-- ARGV: number of the lane, position after which to begin, limit, 1 if pending
-- ones are meant, 1 if delivered ones are, how many messages to look at.
-- Result: how many were deleted, the position that was reached (-1: the end).
-- Atomicity: nothing to check. Run twice it deletes the next ones.
--#include beyond
--#include state
--#include pages
local lane = lane_keys(1, ARGV[1])
lane.latest = KEYS[8]
local cursor, limit, look = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[6])
local pending, delivered = 0, 0
while look > 0 and pending + delivered < limit do
  local rows = read_page(lane.messages, cursor, look)
  if #rows == 0 then
    cursor = -1
    break
  end
  look = look - #rows
  for i = 1, #rows do
    if pending + delivered == limit then break end
    cursor = position_of(rows[i])
    local m = read_state(redis.call('HGET', lane.states, cursor))
    if has(m, DELIVERED) then
      if ARGV[5] == '1' and remove(lane, KEYS[6], cursor, m) then delivered = delivered + 1 end
    elseif ARGV[4] == '1' and remove(lane, KEYS[6], cursor, m) then
      pending = pending + 1
    end
  end
end
shrink(lane, KEYS[7])
if pending ~= 0 then redis.call('HINCRBY', lane.hash, 'pending', -pending) end
if delivered ~= 0 then redis.call('HINCRBY', lane.hash, 'delivered', -delivered) end
if pending + delivered ~= 0 then redis.call('HINCRBY', KEYS[7], 'size', -(pending + delivered)) end
return {pending + delivered, cursor}
