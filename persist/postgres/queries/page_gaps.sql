-- Purpose: messages that became visible behind the cursor of a lane, and are not
-- for page_late to find.
-- Parameters: $1 and $2 first and last positions of the gaps, in order, $3 and $4
-- due and position up to which late messages were handed out, $5 limit, $6 bytes.
-- Result: the columns of an entry, in the order of positions.
SELECT position, state, due, expires, enqueued_at, attempts, last_error, body FROM (
  SELECT o.*, sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - size AS before FROM (
    SELECT position, state, due, expires, enqueued_at, attempts, last_error, size, body
    FROM unnest($1::bigint[], $2::bigint[]) AS g (first, last) JOIN oncemq.outbox ON position BETWEEN g.first AND g.last
    WHERE due IS NULL OR (due, position) <= ($3::bigint, $4::bigint)
    ORDER BY position LIMIT $5::bigint
  ) o
) p WHERE before <= $6::bigint ORDER BY position
