-- Purpose: see where keys stand after claim, give back what was completed
-- meanwhile, and forget completions whose window has closed.
-- Parameters: $1 group, $2 keys.
-- Result: place in the parameters, whether the key is completed, and with a dead
-- letter, epoch, attempts and owner of the claim, what is left of it, zero or less if the key is free;
-- nothing of keys that are ours.
WITH t AS MATERIALIZED (
  SELECT oncemq.now_ms() AS now, current_setting('oncemq_saved.epoch')::bigint AS epoch
), k AS MATERIALIZED (
  SELECT k.group_id, k.key, k.n, (
    SELECT p.until > t.now FROM oncemq.processed p WHERE p.group_id = k.group_id AND p.key = k.key
  ) AS completed, (
    SELECT p.dead FROM oncemq.processed p WHERE p.group_id = k.group_id AND p.key = k.key
  ) AS dead
  FROM t, unnest(array_fill($1::int, ARRAY[cardinality($2::bytea[])]), $2::bytea[])
    WITH ORDINALITY AS k (group_id, key, n)
), back AS (
  DELETE FROM oncemq.claims c USING k, t
  WHERE k.completed AND c.group_id = k.group_id AND c.key = k.key AND c.epoch = t.epoch
), stale AS (
  DELETE FROM oncemq.processed p USING k, t
  WHERE NOT k.completed AND p.group_id = k.group_id AND p.key = k.key AND p.until <= t.now
)
SELECT n, true, dead, 0::bigint, 0, ''::bytea, 0::bigint FROM k WHERE completed
UNION ALL
SELECT k.n, false, false, c.epoch, c.attempts, c.owner, CASE WHEN c.released THEN 0 ELSE c.until - t.now END
FROM k, t, oncemq.claims c
WHERE k.completed IS NOT TRUE AND c.group_id = k.group_id AND c.key = k.key AND c.epoch <> t.epoch
