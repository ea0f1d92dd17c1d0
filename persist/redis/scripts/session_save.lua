-- Purpose: replace packet state [SESSION-2]. A late save changes nothing [SESSION-6].
-- KEYS: session, a hash of epoch, number and states.
-- ARGV: epoch, number, states.
-- Result: 0, or -1 if a higher epoch has the session [SESSION-3].
-- Atomicity: epoch and number are all there is to check. Run twice it does the same.
--#include beyond
local session = redis.call('HMGET', KEYS[1], 'epoch', 'number')
local known, epoch = tonumber(session[1]), tonumber(ARGV[1])
if known and known > epoch then return -1 end
if known == epoch and (tonumber(session[2]) or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'number', ARGV[2], 'states', ARGV[3])
return 0
