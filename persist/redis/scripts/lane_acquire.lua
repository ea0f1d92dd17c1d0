-- Purpose: take the lease of a lane that is free.
-- KEYS: lane.
-- ARGV: owner, ttl.
-- Result: epoch and the time until which it may have been sent from, or nothing
-- if the lease is held.
-- Atomicity: run twice the second finds the lease held.
--#include clock
--#include beyond
local f = redis.call('HMGET', KEYS[1], 'holder', 'until', 'epoch', 'sent')
if f[1] and f[1] ~= '0' and tonumber(f[2]) > now then return {} end
-- Not the next number but the time, if that is higher: a failover may take the
-- last epochs away, and what was given out before must not be given out again.
local epoch = math.max((tonumber(f[3]) or 0) + 1, now)
redis.call('HSET', KEYS[1], 'holder', epoch, 'epoch', epoch, 'owner', ARGV[1], 'until', now + ARGV[2], 'seq', 0)
return {epoch, tonumber(f[4]) or 0}
