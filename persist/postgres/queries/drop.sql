-- Purpose: let messages give way [OUTBOX-9].
-- Parameters: $1 positions, in order.
-- Result: none.
WITH gone AS (
  DELETE FROM oncemq.outbox o USING unnest($1::bigint[]) AS p (position) WHERE o.position = p.position
  RETURNING o.position, octet_length(o.body) AS bytes
), remembered AS (
  INSERT INTO oncemq.gave_way (position, state) SELECT position, 5 FROM gone ORDER BY position
)
INSERT INTO oncemq.arrivals (lane, pending, dropped, bytes)
SELECT position >> 48, -count(*), count(*), -sum(bytes) FROM gone GROUP BY position >> 48
