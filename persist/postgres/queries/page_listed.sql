-- Purpose: list a lane for operators.
-- Parameters: $1 and $2 the positions between which to list (exclusive), $3 the
-- states, each a bit, $4 limit.
-- Result: the columns of an entry and the time, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body, (SELECT oncemq.now_ms())
FROM oncemq.outbox
WHERE position > $1::bigint AND position < $2::bigint AND (1 << state) & $3::int <> 0
ORDER BY position LIMIT $4::bigint
