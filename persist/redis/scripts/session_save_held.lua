-- Purpose: replace packet state that names messages of a lane [SESSION-2], under its
-- lease [SESSION-5].
-- KEYS: lane, session, a hash of epoch and states.
-- ARGV: epoch, pages read, states.
-- Result: 0, or 1 if the lease was lost or a higher epoch has the session [SESSION-3].
-- Atomicity: lease and epoch are all there is to check. Run twice it does the same.
--#include held
--#include beyond
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return {1} end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'states', ARGV[3])
return {0}
