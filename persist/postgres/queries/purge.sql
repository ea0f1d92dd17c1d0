-- Purpose: delete messages of a lane, oldest first.
-- Parameters: $1 and $2 the positions between which to delete (exclusive), $3 the
-- states, each a bit, $4 limit.
-- Result: one row: how many were deleted.
WITH found AS MATERIALIZED (
  SELECT position FROM oncemq.outbox
  WHERE position > $1::bigint AND position < $2::bigint AND (1 << state) & $3::int <> 0
  ORDER BY position LIMIT $4::bigint FOR UPDATE
), gone AS (
  DELETE FROM oncemq.outbox WHERE position IN (SELECT position FROM found) RETURNING position, state, octet_length(body) AS bytes
), counted AS (
  INSERT INTO oncemq.arrivals (lane, pending, delivered, bytes)
  SELECT position >> 48, -count(*) FILTER (WHERE state = 0), -count(*) FILTER (WHERE state = 1), -sum(bytes) FROM gone GROUP BY position >> 48
)
SELECT count(*) FROM gone
