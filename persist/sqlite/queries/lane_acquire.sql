-- Purpose: take the lease of a lane that is free, or the owner's own.
-- Parameters: ?1 lane, ?2 owner, ?3 end of the lease, ?4 now.
-- Result: one row with the new epoch and sent_until; none if the lease is held.
UPDATE oncemq_lanes
SET epoch = epoch + 1, holder = epoch + 1, owner = ?2, lease_until = ?3
WHERE lane = ?1 AND (holder = 0 OR lease_until <= ?4 OR owner = ?2 AND ?2 <> '')
RETURNING epoch, sent_until
