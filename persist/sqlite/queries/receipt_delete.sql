-- Purpose: delete the delivered messages of a lane that a receipt answers.
-- Parameters: ?1 message ID, ?2 and ?3 first and last position of the lane.
-- Result: the bytes of each.
DELETE FROM oncemq_outbox INDEXED BY oncemq_outbox_id
WHERE id = ?1 AND receipt = 1 AND state = 1 AND position BETWEEN ?2 AND ?3
RETURNING length(body)
