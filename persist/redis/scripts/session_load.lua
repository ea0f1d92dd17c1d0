-- Purpose: read packet state and raise the session's epoch [SESSION-1].
-- KEYS: session, a hash of epoch and states.
-- ARGV: epoch.
-- Result: the states, empty if there are none, or -1 if a higher epoch has it.
-- Atomicity: run twice it does the same.
--#include beyond
local session = redis.call('HMGET', KEYS[1], 'epoch', 'states')
if session[1] and tonumber(session[1]) > tonumber(ARGV[1]) then return -1 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return session[2] or ''
