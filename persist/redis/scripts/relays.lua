-- Purpose: keep a relay among the live ones, or take it away.
-- KEYS: relays, a sorted set by the end of the announcement.
-- ARGV: owner, ttl (0: take away).
-- Result: the live relays.
-- Atomicity: run twice it does the same.
--#include clock
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
