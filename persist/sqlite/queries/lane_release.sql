-- Purpose: end a lease.
-- Parameters: ?1 lane, ?2 epoch, ?3 now.
-- Result: changes one row; none if the lease was lost.
UPDATE oncemq_lanes SET holder = 0, lease_until = ?3, sent_until = min(sent_until, ?3)
WHERE lane = ?1 AND holder = ?2
