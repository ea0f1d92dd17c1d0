-- Purpose: find the oldest messages of a lane that may give way [OUTBOX-9].
-- Parameters: ?1 and ?2 first and last position of the lane, ?3 limit.
-- Result: positions, in order.
SELECT position FROM oncemq_outbox
WHERE droppable = 1 AND position BETWEEN ?1 AND ?2 AND state = 0
ORDER BY position LIMIT ?3
