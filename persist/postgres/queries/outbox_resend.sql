-- Purpose: make messages pending again whose receipt did not come in time; that
-- counts as an attempt.
-- Parameters: $1 lane, $2 epoch, $3 positions.
-- Result: none.
WITH again AS (
  UPDATE oncemq.outbox o SET state = 0, attempts = o.attempts + 1
  FROM unnest($3::bigint[]) AS p (position)
  WHERE o.position = p.position AND o.state = 1
    AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
  RETURNING 1
)
UPDATE oncemq.lanes SET pending = pending + n, delivered = delivered - n
FROM (SELECT count(*) AS n FROM again) c
WHERE lane = $1::smallint AND holder = $2::bigint AND n > 0
