-- Purpose: list a lane for operators.
-- Parameters: ?1 and ?2 the positions between which to list (exclusive), ?3 the
-- states, each a bit, ?4 limit.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body
FROM oncemq_outbox NOT INDEXED
WHERE position > ?1 AND position < ?2 AND (1 << state) & ?3 <> 0
ORDER BY position LIMIT ?4
