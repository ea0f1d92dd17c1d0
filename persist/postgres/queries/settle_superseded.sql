-- Purpose: delete messages that their holder found superseded [OUTBOX-16].
-- Parameters: $1 lane, $2 epoch, $3 positions.
-- Result: none.
WITH gone AS (
  DELETE FROM oncemq.outbox o USING unnest($3::bigint[]) AS p (position)
  WHERE o.position = p.position AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
  RETURNING o.position, o.state, octet_length(o.body) AS bytes
), remembered AS (
  INSERT INTO oncemq.gave_way (position, state) SELECT position, 6 FROM gone ORDER BY position
)
UPDATE oncemq.lanes l SET pending = l.pending - c.pending, delivered = l.delivered - c.delivered,
  superseded = l.superseded + c.pending + c.delivered, bytes = l.bytes - c.bytes
FROM (
  SELECT count(*) FILTER (WHERE state = 0) AS pending, count(*) FILTER (WHERE state = 1) AS delivered, sum(bytes) AS bytes FROM gone
) c
WHERE lane = $1::smallint AND holder = $2::bigint AND c.pending + c.delivered > 0
