-- Purpose: delete the messages of a lane that receipts answer, or make dead
-- letters of them [OUTBOX-12].
-- Parameters: $1 lane, $2 epoch, $3 and $4 first and last position of the lane,
-- $5 message IDs, $6 failed, $7 reasons.
-- Result: the places in the parameters of the receipts that answered something.
WITH found AS MATERIALIZED (
  SELECT DISTINCT ON (o.position) o.position, r.failed, r.reason, r.n
  FROM unnest($5::bytea[], $6::boolean[], $7::bytea[]) WITH ORDINALITY AS r (id, failed, reason, n), LATERAL (
    SELECT position FROM oncemq.outbox WHERE id = r.id AND once AND receipt
    UNION ALL SELECT position FROM oncemq.outbox WHERE id = r.id AND id IS NOT NULL AND NOT once AND receipt
  ) o
  WHERE o.position BETWEEN $3::bigint AND $4::bigint
    AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
  ORDER BY o.position, r.n
), gone AS (
  DELETE FROM oncemq.outbox o USING found f WHERE o.position = f.position
  RETURNING o.position, o.state, o.attempts, o.first_error, o.first_at, o.expires - o.enqueued_at AS expiry, o.body,
    octet_length(o.body) AS bytes,     f.failed, f.reason, f.n
), buried AS (
  INSERT INTO oncemq.dead_letters (side, state, position, reason_code, reason, attempts, at,
    first_error, first_at, last_error, last_at, expiry, body)
  SELECT 1, 3, position, 0, reason, attempts, t.now, coalesce(first_error, reason), coalesce(first_at, t.now),
    reason, t.now, coalesce(expiry, 0), body
  FROM gone, (SELECT oncemq.now_ms() AS now) t WHERE failed ORDER BY n, position
), counted AS (
  UPDATE oncemq.lanes l SET pending = l.pending - c.pending, delivered = l.delivered - c.delivered, bytes = l.bytes - c.bytes
  FROM (SELECT count(*) FILTER (WHERE state = 0) AS pending, coalesce(sum(bytes), 0) AS bytes, count(*) FILTER (WHERE state = 1) AS delivered FROM gone) c
  WHERE lane = $1::smallint AND holder = $2::bigint AND c.pending + c.delivered > 0
)
SELECT n FROM gone
