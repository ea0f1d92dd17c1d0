-- Purpose: messages that became visible behind the cursor of a lane, and are not
-- for page_late to find. Each gap is looked into by itself: the planner would
-- rather read the outbox in order, all of it, than sort what it finds.
-- Parameters: $1 and $2 first and last positions of the gaps, in order, $3 and $4
-- due and position up to which late messages were handed out, $5 limit, $6 bytes.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body FROM (
  SELECT o.*, sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - size AS before FROM (
    SELECT f.* FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS g (first, last, n), LATERAL (
      SELECT position, state, due, expires, enqueued_at, attempts, last_error, size, body FROM oncemq.outbox
      WHERE position BETWEEN g.first AND g.last AND (due IS NULL OR (due, position) <= ($3::bigint, $4::bigint))
      ORDER BY position LIMIT $5::bigint
    ) f ORDER BY g.n, f.position LIMIT $5::bigint
  ) o
) p WHERE before <= $6::bigint ORDER BY position
