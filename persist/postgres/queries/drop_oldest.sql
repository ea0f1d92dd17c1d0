-- Purpose: let the oldest messages of lanes give way [OUTBOX-9], if there are
-- enough of them.
-- Parameters: $1 and $2 first and last positions of the lanes, $3 how many of each
-- at most, $4 how many are needed.
-- Result: one row: how many were deleted, either none or as many as were needed.
WITH victims AS MATERIALIZED (
  SELECT v.position FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS l (first, last, most), LATERAL (
    SELECT o.position FROM oncemq.outbox o
    WHERE o.droppable AND o.state = 0 AND o.position BETWEEN l.first AND l.last
    ORDER BY o.position LIMIT l.most FOR UPDATE
  ) v ORDER BY v.position LIMIT $4::bigint
), gone AS (
  DELETE FROM oncemq.outbox WHERE position IN (SELECT position FROM victims)
    AND (SELECT count(*) FROM victims) >= $4::bigint
  RETURNING position
), counted AS (
  INSERT INTO oncemq.arrivals (lane, pending, dropped)
  SELECT position >> 48, -count(*), count(*) FROM gone GROUP BY position >> 48
)
SELECT count(*) FROM gone
