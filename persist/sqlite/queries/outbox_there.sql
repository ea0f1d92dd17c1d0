-- Purpose: see which messages are there.
-- Parameters: ?1 positions as a JSON array.
-- Result: those positions, in order.
SELECT position FROM oncemq_outbox
WHERE position IN (SELECT value FROM json_each(?1)) ORDER BY position
