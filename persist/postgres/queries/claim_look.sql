-- Purpose: see where keys stand after claim and claim_take, give back what was
-- completed meanwhile, and forget completions whose window has closed.
-- Parameters: $1 keys.
-- Result: place in the parameters, whether the key is completed, and with a dead
-- letter, epoch, attempts and owner of the claim, what is left of it, zero or less if the key is free;
-- nothing of keys that are ours.
WITH t AS MATERIALIZED (
  SELECT oncemq.now_ms() AS now, current_setting('oncemq_saved.epoch')::bigint AS epoch
), k AS MATERIALIZED ( -- OFFSET 0 has it look for each key, however empty the table was once
  SELECT k.group_id, k.key, k.n, p.until > t.now AS completed, p.dead
  FROM t, unnest(array_fill(current_setting('oncemq_saved.group')::int, ARRAY[cardinality($1::bytea[])]), $1::bytea[])
    WITH ORDINALITY AS k (group_id, key, n)
  CROSS JOIN LATERAL (
    SELECT until, dead FROM oncemq.processed p WHERE p.group_id = k.group_id AND p.key = k.key OFFSET 0
  ) AS p
), back AS (
  DELETE FROM oncemq.claims c USING k, t
  WHERE k.completed AND c.group_id = k.group_id AND c.key = k.key AND c.epoch = t.epoch
), stale AS (
  DELETE FROM oncemq.processed p USING k, t
  WHERE NOT k.completed AND p.group_id = k.group_id AND p.key = k.key AND p.until <= t.now
)
SELECT n, true, dead, 0::bigint, 0, ''::bytea, 0::bigint FROM k WHERE completed
UNION ALL
SELECT o.n, false, false, c.epoch, c.attempts, c.owner, CASE WHEN c.released THEN 0 ELSE c.until - t.now END
FROM t, unnest(array_fill(current_setting('oncemq_saved.group')::int, ARRAY[cardinality($1::bytea[])]), $1::bytea[])
  WITH ORDINALITY AS o (group_id, key, n)
CROSS JOIN LATERAL (
  SELECT epoch, attempts, owner, released, until FROM oncemq.claims c WHERE c.group_id = o.group_id AND c.key = o.key OFFSET 0
) AS c
WHERE current_setting('oncemq_saved.open')::bigint > 0 AND c.epoch <> t.epoch
  AND NOT EXISTS (SELECT FROM k WHERE k.completed AND k.n = o.n)
