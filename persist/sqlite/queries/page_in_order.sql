-- Purpose: the next messages of a lane in their places.
-- Parameters: ?1 cursor, ?2 end of the lane (exclusive), ?3 now, ?4 limit, ?5 a
-- time.
-- Result: the columns of an entry, in the order of positions; but position
-- counts from the cursor, and enqueued_at from ?5. Go keeps a small number in an
-- interface without an allocation.
SELECT position - ?1, state, due, expires, enqueued_at - ?5, attempts, last_error, body
FROM oncemq_outbox NOT INDEXED
WHERE position > ?1 AND position < ?2 AND (due IS NULL OR due <= ?3)
ORDER BY position LIMIT ?4
