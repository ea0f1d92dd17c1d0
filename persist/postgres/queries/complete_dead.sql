-- Purpose: as complete, with dead letters [CLAIM-6], each stored once.
-- Parameters: as of complete; and of the letters $6 the places of their keys in
-- the parameters, $7 sides, $8 states, $9 positions (0: none), $10 groups, $11
-- keys, $12 reason codes, $13 reasons, $14 attempts, $15 first errors, $16 their times,
-- $17 last errors, $18 their times, $19 expiries, $20 bodies.
-- Result: places in the parameters of the keys that were marked.
WITH t AS MATERIALIZED (SELECT oncemq.now_ms() AS now), gone AS (
  DELETE FROM oncemq.claims c
  USING unnest(array_fill((SELECT id FROM oncemq.groups WHERE key = $1::bytea), ARRAY[cardinality($2::bytea[])]), $2::bytea[], $3::bigint[])
    WITH ORDINALITY AS k (group_id, key, epoch, n)
  WHERE c.group_id = k.group_id AND c.key = k.key AND c.epoch = k.epoch AND NOT c.released
  RETURNING k.n, c.group_id, c.key, c.epoch
), marked AS (
  INSERT INTO oncemq.processed (group_id, key, epoch, until, dead)
  SELECT group_id, key, epoch, t.now + $4::bigint, n = ANY ($6::bigint[]) FROM gone, t
  ON CONFLICT (group_id, key) DO UPDATE SET epoch = excluded.epoch, until = excluded.until, dead = excluded.dead
), again AS (
  UPDATE oncemq.processed p SET until = t.now + $4::bigint
  FROM t, unnest(array_fill((SELECT id FROM oncemq.groups WHERE key = $1::bytea), ARRAY[cardinality($2::bytea[])]), $2::bytea[],
    $3::bigint[]) WITH ORDINALITY AS k (group_id, key, epoch, n)
  WHERE (SELECT count(*) FROM gone) < $5::bigint AND p.group_id = k.group_id AND p.key = k.key AND p.epoch = k.epoch
  RETURNING k.n
), letters AS (
  INSERT INTO oncemq.dead_letters (side, state, position, group_name, key, reason_code, reason, attempts, at,
    first_error, first_at, last_error, last_at, expiry, body)
  SELECT d.side, d.state, nullif(d.position, 0), d.group_name, d.key, d.reason_code, d.reason, d.attempts, t.now,
    d.first_error, d.first_at, d.last_error, d.last_at, d.expiry, d.body
  FROM t, unnest($6::bigint[], $7::smallint[], $8::smallint[], $9::bigint[], $10::bytea[], $11::bytea[], $12::smallint[],
    $13::bytea[], $14::int[], $15::bytea[], $16::bigint[], $17::bytea[], $18::bigint[], $19::bigint[], $20::bytea[])
    WITH ORDINALITY AS d (n, side, state, position, group_name, key, reason_code, reason, attempts, first_error, first_at,
      last_error, last_at, expiry, body, i)
  WHERE d.n IN (SELECT n FROM gone) ORDER BY d.i
)
SELECT n FROM gone UNION ALL SELECT n FROM again
