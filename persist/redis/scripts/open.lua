-- Purpose: create the store if it is new, and read what was settled at its
-- creation.
-- KEYS: meta.
-- ARGV: schema version, identity, number of lanes.
-- Result: schema version, identity, number of lanes.
-- Atomicity: of several that open a new store at once, the first creates it.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'identity', ARGV[2], 'lanes', ARGV[3])
else
  -- A store that can be read and not written is noticed now.
  redis.call('HDEL', KEYS[1], '')
end
return redis.call('HMGET', KEYS[1], 'schema', 'identity', 'lanes')
