-- Purpose: find the messages that may have an ID. It reads the whole outbox,
-- since only few messages have theirs in a column; the ID stands in the body as
-- it is, so what does not contain it need not be decoded.
-- Parameters: ?1 message ID as a BLOB.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body
FROM oncemq_outbox NOT INDEXED
WHERE instr(body, ?1) > 0
ORDER BY position
