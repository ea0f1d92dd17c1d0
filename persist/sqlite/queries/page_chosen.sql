-- Purpose: messages that were returned.
-- Parameters: ?1 positions as a JSON array.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body
FROM oncemq_outbox
WHERE position IN (SELECT value FROM json_each(?1))
ORDER BY position
