-- Nothing is changed under a lease that is not the holder's any more [LEASE-3].
-- KEYS[1] is the lane, ARGV[1] the epoch.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return {1} end
