-- Purpose: keep what is handed out from being superseded [OUTBOX-14]. What another
-- transaction holds may be superseded already, and is left.
-- Parameters: $1 lane, $2 epoch, $3 positions, in order.
-- Result: positions of those that may be handed out.
WITH free AS MATERIALIZED (
  SELECT o.position, o.skey FROM unnest($3::bigint[]) AS p (position), LATERAL (
    SELECT position, skey FROM oncemq.outbox WHERE position = p.position FOR UPDATE SKIP LOCKED
  ) o WHERE EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
), marked AS (
  UPDATE oncemq.outbox o SET skey = NULL FROM free f WHERE o.position = f.position AND f.skey IS NOT NULL
)
SELECT position FROM free
