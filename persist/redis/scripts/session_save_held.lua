-- Purpose: replace packet state that names messages of a lane [SESSION-2], under its
-- lease [SESSION-5]. A late save changes nothing [SESSION-6].
-- KEYS: lane, session, a hash of epoch, number and states.
-- ARGV: epoch, pages read, number, states.
-- Result: 0, or 1 if the lease was lost or a higher epoch has the session [SESSION-3].
-- Atomicity: lease, epoch and number are all there is to check. Run twice it does the same.
--#include held
--#include beyond
local session = redis.call('HMGET', KEYS[2], 'epoch', 'number')
local known, epoch = tonumber(session[1]), tonumber(ARGV[1])
if known and known > epoch then return {1} end
if known == epoch and (tonumber(session[2]) or 0) > tonumber(ARGV[3]) then return {0} end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'number', ARGV[3], 'states', ARGV[4])
return {0}
