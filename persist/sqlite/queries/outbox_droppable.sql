-- Purpose: find the oldest messages of a lane that may give way [OUTBOX-9].
-- Parameters: ?1 and ?2 first and last position of the lane.
-- Result: position and bytes, in the order of positions; read as far as needed.
SELECT position, length(body) FROM oncemq_outbox
WHERE droppable = 1 AND position BETWEEN ?1 AND ?2 AND state = 0
ORDER BY position
