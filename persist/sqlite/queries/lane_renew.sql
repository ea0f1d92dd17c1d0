-- Purpose: extend a lease, even one that ended, unless it was taken over.
-- Parameters: ?1 lane, ?2 epoch, ?3 end of the lease, ?4 whether the holder sends.
-- Result: changes one row; none if the lease was lost.
UPDATE oncemq_lanes
SET lease_until = ?3, sent_until = iif(?4, max(sent_until, ?3), sent_until)
WHERE lane = ?1 AND holder = ?2
