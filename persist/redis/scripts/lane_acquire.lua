-- Purpose: take the lease of a lane that is free, or the owner's own.
-- KEYS: lane.
-- ARGV: owner, ttl.
-- Result: epoch and the time until which it may have been sent from, or nothing
-- if the lease is held.
-- Atomicity: run twice the second takes the lane anew, if the owner has a name.
--#include clock
--#include beyond
local f = redis.call('HMGET', KEYS[1], 'holder', 'until', 'epoch', 'sent', 'owner')
local own = ARGV[1] ~= '' and f[5] == ARGV[1]
if f[1] and f[1] ~= '0' and tonumber(f[2]) > now and not own then return {} end
-- Not the next number but the time, if that is higher: a failover may take the
-- last epochs away, and what was given out before must not be given out again.
local epoch = math.max((tonumber(f[3]) or 0) + 1, now)
redis.call('HSET', KEYS[1], 'holder', epoch, 'epoch', epoch, 'owner', ARGV[1], 'until', now + ARGV[2], 'seq', 0)
return {epoch, tonumber(f[4]) or 0}
