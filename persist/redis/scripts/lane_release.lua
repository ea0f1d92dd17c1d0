-- Purpose: end a lease.
-- KEYS: lane.
-- ARGV: epoch, pages read, channel, sender.
-- Result: 0, or 1 if the lease was lost.
-- Atomicity: run twice the second finds it lost.
--#include held
--#include clock
--#include beyond
--#include wake
local sent = tonumber(redis.call('HGET', KEYS[1], 'sent')) or 0
redis.call('HSET', KEYS[1], 'holder', 0, 'until', now, 'sent', math.min(sent, now))
wake(ARGV[3], ARGV[4])
return {0}
