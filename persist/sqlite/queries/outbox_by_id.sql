-- Purpose: find the message that holds an ID [OUTBOX-4].
-- Parameters: ?1 message ID.
-- Result: one row with its position, or none.
SELECT position FROM oncemq_outbox INDEXED BY oncemq_outbox_id
WHERE id = ?1 ORDER BY position LIMIT 1
