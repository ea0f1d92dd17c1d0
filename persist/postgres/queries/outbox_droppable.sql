-- Purpose: find the oldest messages of a lane that may give way [OUTBOX-9].
-- Parameters: $1 and $2 positions between which they are (exclusive), $3 limit.
-- Result: position and bytes, in the order of positions.
SELECT position, octet_length(body) FROM oncemq.outbox
WHERE droppable AND state = 0 AND position > $1::bigint AND position < $2::bigint
ORDER BY position LIMIT $3::bigint FOR UPDATE
