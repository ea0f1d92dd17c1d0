-- Purpose: extend a lease, even one that ended, unless it was taken over.
-- Parameters: ?1 lane, ?2 epoch, ?3 end of the lease.
-- Result: changes one row; none if the lease was lost.
UPDATE oncemq_lanes SET lease_until = ?3 WHERE lane = ?1 AND holder = ?2
