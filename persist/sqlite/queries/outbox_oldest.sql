-- Purpose: the oldest pending message of a lane.
-- Parameters: ?1 and ?2 first and last position of the lane.
-- Result: one row with enqueued_at, or none.
SELECT enqueued_at FROM oncemq_outbox NOT INDEXED
WHERE position BETWEEN ?1 AND ?2 AND state = 0
ORDER BY position LIMIT 1
