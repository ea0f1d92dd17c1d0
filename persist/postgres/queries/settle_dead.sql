-- Purpose: move messages to the dead letters [OUTBOX-11].
-- Parameters: $1 lane, $2 epoch, $3 positions, $4 states, $5 reason codes, $6
-- reasons, $7 what is added to the attempts.
-- Result: positions of those that were there.
WITH gone AS (
  DELETE FROM oncemq.outbox o
  USING unnest($3::bigint[], $4::smallint[], $5::smallint[], $6::bytea[], $7::int[])
    WITH ORDINALITY AS r (position, state, code, reason, added, n)
  WHERE o.position = r.position
    AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
  RETURNING o.position, o.state AS was, o.attempts, o.first_error, o.first_at, o.last_error, o.last_at,
    o.expires - o.enqueued_at AS expiry, o.body, octet_length(o.body) AS bytes,
    r.state, r.code, r.reason, r.added, r.n
), buried AS (
  INSERT INTO oncemq.dead_letters (side, state, position, reason_code, reason, attempts, at,
    first_error, first_at, last_error, last_at, expiry, body)
  SELECT 1, state, position, code, reason, attempts + added, t.now,
    coalesce(first_error, CASE state WHEN 3 THEN reason ELSE '' END), coalesce(first_at, CASE state WHEN 3 THEN t.now ELSE 0 END),
    CASE state WHEN 3 THEN reason ELSE coalesce(last_error, '') END, CASE state WHEN 3 THEN t.now ELSE coalesce(last_at, 0) END,
    coalesce(expiry, 0), body
  FROM gone, (SELECT oncemq.now_ms() AS now) t ORDER BY n
), counted AS (
  UPDATE oncemq.lanes l SET pending = l.pending - c.pending, delivered = l.delivered - c.delivered, bytes = l.bytes - c.bytes
  FROM (SELECT count(*) FILTER (WHERE was = 0) AS pending, coalesce(sum(bytes), 0) AS bytes, count(*) FILTER (WHERE was = 1) AS delivered FROM gone) c
  WHERE lane = $1::smallint AND holder = $2::bigint AND c.pending + c.delivered > 0
)
SELECT position FROM gone
