-- Purpose: read packet state and raise the session's epoch [SESSION-1]. Numbers begin
-- anew with it [SESSION-6].
-- KEYS: session, a hash of epoch, number and states.
-- ARGV: epoch.
-- Result: the states, empty if there are none, or -1 if a higher epoch has it.
-- Atomicity: run twice it does the same.
--#include beyond
local session = redis.call('HMGET', KEYS[1], 'epoch', 'states', 'number')
local known, epoch = tonumber(session[1]), tonumber(ARGV[1])
if known and known > epoch then return -1 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'number', known == epoch and session[3] or 0)
return session[2] or ''
