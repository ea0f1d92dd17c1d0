-- Purpose: extend a lease, even one that ended, unless it was taken over.
-- Parameters: ?1 lane, ?2 epoch, ?3 end of the lease, ?4 now, ?5 whether the
-- holder sends.
-- Result: changes one row; none if the lease was lost.
UPDATE oncemq_lanes
SET lease_until = ?3, sent_until = iif(?5, max(sent_until, ?3), min(sent_until, ?4))
WHERE lane = ?1 AND holder = ?2
