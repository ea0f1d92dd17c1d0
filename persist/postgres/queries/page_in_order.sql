-- Purpose: the next messages of a lane in their places. Beyond the bytes that are
-- wanted one more is read, so that it is seen that there is more.
-- Parameters: $1 cursor, $2 last position of the lane, $3 limit, $4 bytes.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body FROM (
  SELECT o.*, sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - size AS before FROM (
    SELECT position, state, due, expires, enqueued_at, attempts, last_error, size, body FROM oncemq.outbox
    WHERE position > $1::bigint AND position <= $2::bigint
      AND (due IS NULL OR due <= (SELECT current_setting('oncemq_saved.now')::bigint))
    ORDER BY position LIMIT $3::bigint
  ) o
) p WHERE before <= $4::bigint ORDER BY position
