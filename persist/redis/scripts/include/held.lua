-- Nothing is changed under a lease that is not the holder's any more [LEASE-3].
-- KEYS[1] is the lane, ARGV[1] the epoch, ARGV[2] how many pages the holder has
-- read. If the lane knows of fewer, a failover or a crash of the server took the
-- latest changes away, those pages with them, and the positions that the holder
-- has seen may be other messages by now: what it says of them would be done to
-- these. So the lease ends, and all begins anew. Messages whose positions were
-- lost but never read under this lease are no harm: the holder cannot name them.
do
  local f = redis.call('HMGET', KEYS[1], 'holder', 'seq')
  if f[1] ~= ARGV[1] then return {1} end
  if (tonumber(f[2]) or 0) < tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[1], '') -- as in beyond.lua: even in a full store
    redis.call('HSET', KEYS[1], 'holder', 0)
    return {1}
  end
end
