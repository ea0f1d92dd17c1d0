-- Purpose: extend a lease, even one that ended, unless it was taken over.
-- KEYS: lane.
-- ARGV: epoch, ttl, 1 if the holder sends.
-- Result: 0, or 1 if the lease was lost.
-- Atomicity: run twice it extends twice.
--#include held
--#include clock
--#include beyond
local sent = tonumber(redis.call('HGET', KEYS[1], 'sent')) or 0
if ARGV[3] == '1' then sent = math.max(sent, now + ARGV[2]) else sent = math.min(sent, now) end
redis.call('HSET', KEYS[1], 'until', now + ARGV[2], 'sent', sent)
return {0}
