-- Purpose: which buckets of a group are in use.
-- KEYS: used buckets of the group.
-- ARGV: none.
-- Result: a bit for each, as SETBIT counts them.
-- Atomicity: reads only.
return redis.call('GET', KEYS[1]) or ''
