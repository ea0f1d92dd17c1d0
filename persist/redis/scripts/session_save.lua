-- Purpose: replace packet state [SESSION-2].
-- KEYS: session, a hash of epoch and states.
-- ARGV: epoch, states.
-- Result: 0, or -1 if a higher epoch has the session [SESSION-3].
-- Atomicity: the epoch is all there is to check. Run twice it does the same.
--#include beyond
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return -1 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'states', ARGV[2])
return 0
