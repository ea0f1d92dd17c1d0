-- Purpose: add messages that are delayed, expire, ask for a receipt, may give way
-- or supersede others.
-- Parameters: $1 sequences of their lanes, $2 sizes of the payloads, $3 bodies,
-- $4 delays and $5 expiries (0: none), $6 IDs (NULL: none), $7 receipt, $8
-- droppable, $9 hashes of the keys of what may be superseded (NULL: none).
-- Result: their positions, in the order of the parameters.
WITH t AS MATERIALIZED (SELECT oncemq.now_ms() AS now)
INSERT INTO oncemq.outbox (position, enqueued_at, size, body, due, expires, id, receipt, droppable, skey)
SELECT nextval(m.sequence::oid::regclass), t.now, m.size, m.body, t.now + nullif(m.delay, 0),
  t.now + nullif(m.expiry, 0), m.id, m.receipt, m.droppable, m.skey
FROM t, unnest($1::bigint[], $2::int[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[], $7::boolean[], $8::boolean[], $9::bytea[])
  WITH ORDINALITY AS m (sequence, size, body, delay, expiry, id, receipt, droppable, skey, n)
ORDER BY m.n
RETURNING position
