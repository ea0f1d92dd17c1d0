-- Purpose: add messages some of which are idempotent [OUTBOX-4]. An ID that a
-- message without that promise holds is found by the index of those; of two
-- idempotent ones the unique index knows, and waits for a transaction that has
-- added the ID and not ended. The row that is there is locked, which tells its
-- place and that it stays until the commit.
-- Parameters: as of insert_full, and $9 once.
-- Result: n, position, whether it is new. First the messages whose ID was found,
-- n being their place in the parameters; then the others in their order, with n
-- zero.
WITH t AS MATERIALIZED (SELECT oncemq.now_ms() AS now), m AS MATERIALIZED (
  SELECT u.*, CASE WHEN u.once THEN (
    SELECT min(o.position) FROM oncemq.outbox o WHERE o.id = u.id AND o.id IS NOT NULL AND NOT o.once
  ) END AS held
  FROM unnest($1::bigint[], $2::int[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[], $7::boolean[], $8::boolean[], $9::boolean[])
    WITH ORDINALITY AS u (sequence, size, body, delay, expiry, id, receipt, droppable, once, n)
), added AS (
  INSERT INTO oncemq.outbox AS o (position, enqueued_at, size, body, due, expires, id, receipt, droppable, once)
  SELECT nextval(m.sequence::oid::regclass), t.now, m.size, m.body, t.now + nullif(m.delay, 0),
    t.now + nullif(m.expiry, 0), m.id, m.receipt, m.droppable, m.once
  FROM m, t WHERE m.held IS NULL ORDER BY m.n
  ON CONFLICT (id) WHERE once DO UPDATE SET attempts = o.attempts
  RETURNING o.position, o.xmax = 0 AS fresh
), counted AS (
  INSERT INTO oncemq.arrivals (lane, pending)
  SELECT position >> 48, count(*) FROM added WHERE fresh GROUP BY position >> 48
)
SELECT n, held, false FROM m WHERE held IS NOT NULL
UNION ALL SELECT 0, position, fresh FROM added
