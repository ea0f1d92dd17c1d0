-- Purpose: find the messages that may have an ID. It reads the whole outbox,
-- since only few messages have theirs in a column; the ID stands in the body as
-- it is, so what does not contain it need not be decoded.
-- Parameters: $1 message ID.
-- Result: the columns of an entry and the time, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body, (SELECT oncemq.now_ms())
FROM oncemq.outbox WHERE position($1::bytea IN body) > 0
ORDER BY position
