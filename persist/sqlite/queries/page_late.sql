-- Purpose: messages behind the cursor of a lane that became due since.
-- Parameters: ?1 and ?2 due and position up to which they were handed out,
-- ?3 now, ?4 first position of the lane, ?5 cursor, ?6 limit.
-- Result: the columns of an entry, in the order of due and position.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body
FROM oncemq_outbox INDEXED BY oncemq_outbox_due
WHERE (due, position) > (?1, ?2) AND due <= ?3 AND position BETWEEN ?4 AND ?5
ORDER BY due, position LIMIT ?6
