-- Purpose: the oldest pending message of each lane.
-- Parameters: $1 and $2 first and last positions of the lanes.
-- Result: one row: the age of the oldest of all, or NULL.
SELECT oncemq.now_ms() - min(o.enqueued_at) FROM unnest($1::bigint[], $2::bigint[]) AS l (first, last), LATERAL (
  SELECT enqueued_at FROM oncemq.outbox
  WHERE position BETWEEN l.first AND l.last AND state = 0
  ORDER BY position LIMIT 1
) o
