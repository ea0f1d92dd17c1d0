-- Purpose: the next messages of a lane in their places.
-- Parameters: ?1 cursor, ?2 end of the lane (exclusive), ?3 now, ?4 limit.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body
FROM oncemq_outbox NOT INDEXED
WHERE position > ?1 AND position < ?2 AND (due IS NULL OR due <= ?3)
ORDER BY position LIMIT ?4
