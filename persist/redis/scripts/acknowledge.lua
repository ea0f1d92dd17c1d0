-- Purpose: record receipts [OUTBOX-12].
-- KEYS: as of settle.
-- ARGV: epoch, pages read, number of the lane, then for each receipt the ID, 1 if the
-- consumer gave the message up, and the reason.
-- Result: 0 and for each receipt 1 if the message was known; or 1 if the lease
-- was lost.
-- Atomicity: the lease is all there is to check. Run twice the second finds
-- nothing.
--#include held
--#include clock
--#include beyond
--#include state
--#include letter
--#include bury
local lane = lane_keys(1, ARGV[3])
local ids, totals, dead, fates = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local pending, delivered = 0, 0
local out = {0}
for at = 4, #ARGV, 3 do
  local known = 0
  for place in string.gmatch(redis.call('HGET', ids, ARGV[at]) or '', '%S+') do
    local number, position = string.match(place, '^(%d+):(%d+)$')
    if number == lane.number then
      local m = read_state(redis.call('HGET', lane.states, position))
      local done
      if ARGV[at + 1] == '1' then
        done = bury(lane, ids, totals, dead, fates, position, m, '3', 0, ARGV[at + 2], 0)
      else
        done = remove(lane, ids, position, m)
      end
      if done then
        known = 1
        if has(m, DELIVERED) then delivered = delivered - 1 else pending = pending - 1 end
      end
    end
  end
  out[#out + 1] = known
end
shrink(lane, totals)
if pending ~= 0 then redis.call('HINCRBY', lane.hash, 'pending', pending) end
if delivered ~= 0 then redis.call('HINCRBY', lane.hash, 'delivered', delivered) end
if pending + delivered ~= 0 then redis.call('HINCRBY', totals, 'size', pending + delivered) end
return out
