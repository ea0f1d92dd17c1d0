-- Purpose: where the sweep of processed keys goes on.
-- KEYS: totals, groups.
-- ARGV: none.
-- Result: the place as sweep_save got it, or empty; the numbers of the groups.
-- Atomicity: reads only.
return {redis.call('HGET', KEYS[1], 'sweep') or '', redis.call('HKEYS', KEYS[2])}
