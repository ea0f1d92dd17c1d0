-- Purpose: take what has arrived in a lane into its counters. What others work on
-- is left.
-- Parameters: $1 lane, $2 epoch.
-- Result: changes one row; none if the lease was lost.
WITH found AS MATERIALIZED (
  SELECT ctid FROM oncemq.arrivals WHERE lane = $1::smallint LIMIT 10000 FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM oncemq.arrivals WHERE ctid = ANY (ARRAY(SELECT ctid FROM found))
    AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
  RETURNING pending, bytes, delivered, dropped, superseded
), sums AS (
  SELECT sum(pending) AS pending, sum(bytes) AS bytes, sum(delivered) AS delivered, sum(dropped) AS dropped,
    sum(superseded) AS superseded FROM gone
)
UPDATE oncemq.lanes l
SET pending = l.pending + s.pending, bytes = l.bytes + s.bytes, delivered = l.delivered + s.delivered,
  dropped = l.dropped + s.dropped, superseded = l.superseded + s.superseded
FROM sums s WHERE l.lane = $1::smallint AND l.holder = $2::bigint AND s.pending IS NOT NULL
