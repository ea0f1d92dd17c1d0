-- Purpose: messages that were returned.
-- Parameters: $1 positions, in order, $2 bytes.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body FROM (
  SELECT o.*, sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - size AS before
  FROM unnest($1::bigint[]) AS c (position) JOIN oncemq.outbox o USING (position)
) p WHERE before <= $2::bigint ORDER BY position
