-- Purpose: extend a lease, even one that ended, unless it was taken over.
-- KEYS: lane.
-- ARGV: epoch, pages read, ttl, 1 if the holder sends.
-- Result: 0, or 1 if the lease was lost.
-- Atomicity: run twice it extends twice.
--#include held
--#include clock
--#include beyond
local till = now + ARGV[3]
redis.call('HSET', KEYS[1], 'until', till)
-- A holder that does not send leaves this as it is: the call may be one that came
-- late, after another that said that it does. Only the end of the lease lowers it.
if ARGV[4] == '1' then
  local sent = tonumber(redis.call('HGET', KEYS[1], 'sent')) or 0
  if till > sent then redis.call('HSET', KEYS[1], 'sent', till) end
end
return {0}
