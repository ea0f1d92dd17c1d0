-- Purpose: add messages some of which are idempotent [OUTBOX-4]. Who holds an ID
-- is looked up without a lock: a caller's transaction may be open for long, and the
-- lane must be able to settle what is there. Where two transactions add the same
-- ID, the unique index makes the second wait for the end of the first; what lost
-- is left to insert_rivals. Positions are taken in the order of the parameters;
-- rows are added in that of their IDs, so that transactions which add the same ones
-- do not wait for each other in a circle.
-- Parameters: as of insert_full, and $10 once.
-- Result: position, whether it is that of another message, in the order of the
-- parameters. Those that lost have one that nobody will use.
WITH t AS MATERIALIZED (SELECT oncemq.now_ms() AS now), m AS MATERIALIZED (
  SELECT l.*, coalesce(l.held, nextval(l.sequence::oid::regclass)) AS position FROM (
    SELECT u.*, CASE WHEN u.once THEN (SELECT min(o.position) FROM (
      SELECT position FROM oncemq.outbox WHERE id = u.id AND once
      UNION ALL SELECT position FROM oncemq.outbox WHERE id = u.id AND id IS NOT NULL AND NOT once
    ) o) END AS held
    FROM unnest($1::bigint[], $2::int[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[], $7::boolean[], $8::boolean[], $9::bytea[], $10::boolean[])
      WITH ORDINALITY AS u (sequence, size, body, delay, expiry, id, receipt, droppable, skey, once, n)
    OFFSET 0
  ) l ORDER BY l.n
), added AS (
  INSERT INTO oncemq.outbox (position, enqueued_at, size, body, due, expires, id, receipt, droppable, skey, once)
  SELECT m.position, t.now, m.size, m.body, t.now + nullif(m.delay, 0),
    t.now + nullif(m.expiry, 0), m.id, m.receipt, m.droppable, m.skey, m.once
  FROM m, t WHERE m.held IS NULL ORDER BY m.id
  ON CONFLICT (id) WHERE once DO NOTHING
  RETURNING position, id, once, octet_length(body) AS bytes
), counted AS (
  INSERT INTO oncemq.arrivals (lane, pending, bytes)
  SELECT position >> 48, count(*), sum(bytes) FROM added GROUP BY position >> 48
), rivals AS MATERIALIZED (
  SELECT set_config('oncemq_saved.rivals', coalesce(array_agg(id), '{}')::text, true) FROM (
    SELECT id FROM m WHERE once AND held IS NULL EXCEPT SELECT id FROM added WHERE once
  ) r
)
SELECT m.position, m.held IS NOT NULL FROM m, rivals ORDER BY m.n
