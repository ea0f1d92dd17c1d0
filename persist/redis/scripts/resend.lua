-- Purpose: make messages pending again whose receipts did not come in time.
-- KEYS: lane, messages, states, dues, droppable.
-- ARGV: epoch, pages read, positions.
-- Result: 0, or 1 if the lease was lost.
-- Atomicity: run twice the second finds them pending.
--#include held
--#include beyond
--#include state
local lane = lane_keys(1, '')
local n = 0
for i = 3, #ARGV do
  local s = redis.call('HGET', lane.states, ARGV[i])
  if s then
    local m = read_state(s)
    if has(m, DELIVERED) then
      m.flags, m.attempts = m.flags - DELIVERED, m.attempts + 1
      write_state(lane, ARGV[i], m)
      if has(m, DROPPABLE) then redis.call('ZADD', lane.droppable, ARGV[i], ARGV[i]) end
      n = n + 1
    end
  end
end
if n > 0 then
  redis.call('HINCRBY', lane.hash, 'pending', n)
  redis.call('HINCRBY', lane.hash, 'delivered', -n)
  -- See stats: one of them may be the oldest now.
  redis.call('HDEL', lane.hash, 'oldest')
end
return {0}
