-- Purpose: messages behind the cursor of a lane that became due since.
-- Parameters: $1 and $2 due and position up to which they were handed out, $3
-- first position of the lane, $4 cursor, $5 limit, $6 bytes.
-- Result: the columns of an entry, in the order of due and position.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body FROM (
  SELECT o.*, sum(size) OVER (ORDER BY due, position ROWS UNBOUNDED PRECEDING) - size AS before FROM (
    SELECT position, state, due, expires, enqueued_at, attempts, last_error, size, body FROM oncemq.outbox
    WHERE (due, position) > ($1::bigint, $2::bigint) AND due <= (SELECT current_setting('oncemq_saved.now')::bigint)
      AND position BETWEEN $3::bigint AND $4::bigint
    ORDER BY due, position LIMIT $5::bigint
  ) o
) p WHERE before <= $6::bigint ORDER BY due, position
