-- Purpose: remember how far the sweep has come.
-- KEYS: totals.
-- ARGV: the place.
-- Result: 0.
-- Atomicity: run twice it does the same.
--#include beyond
redis.call('HSET', KEYS[1], 'sweep', ARGV[1])
return 0
