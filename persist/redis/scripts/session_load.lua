-- Purpose: read packet state and raise the session's epoch.
-- KEYS: session.
-- ARGV: epoch.
-- Result: the fields of the session, or -1 if a higher epoch has it.
-- Atomicity: run twice it does the same.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return -1 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
return redis.call('HGETALL', KEYS[1])
