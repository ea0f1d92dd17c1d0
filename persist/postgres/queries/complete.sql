-- Purpose: mark claimed keys as processed; completing again, with the claim that
-- completed it and unless the key was claimed since, is done again. A claimed key
-- has no mark, since claim_look removes one whose window has closed; should it have
-- one all the same, the statement fails, and complete_dead does what it could not.
-- Parameters: $1 group, as stored, $2 keys in ascending order, $3 epochs, $4 length of
-- the window, $5 number of the keys.
-- Result: places in the parameters of those that were marked.
WITH t AS MATERIALIZED (SELECT oncemq.now_ms() AS now), gone AS (
  DELETE FROM oncemq.claims c
  USING unnest(array_fill((SELECT id FROM oncemq.groups WHERE key = $1::bytea), ARRAY[cardinality($2::bytea[])]), $2::bytea[], $3::bigint[])
    WITH ORDINALITY AS k (group_id, key, epoch, n)
  WHERE c.group_id = k.group_id AND c.key = k.key AND c.epoch = k.epoch AND NOT c.released
  RETURNING k.n, c.group_id, c.key, c.epoch
), marked AS (
  INSERT INTO oncemq.processed (group_id, key, epoch, until)
  SELECT group_id, key, epoch, t.now + $4::bigint FROM gone, t
), again AS (
  UPDATE oncemq.processed p SET until = t.now + $4::bigint
  FROM t, unnest(array_fill((SELECT id FROM oncemq.groups WHERE key = $1::bytea), ARRAY[cardinality($2::bytea[])]), $2::bytea[],
    $3::bigint[]) WITH ORDINALITY AS k (group_id, key, epoch, n)
  WHERE (SELECT count(*) FROM gone) < $5::bigint AND p.group_id = k.group_id AND p.key = k.key AND p.epoch = k.epoch
  RETURNING k.n
)
SELECT n FROM gone UNION ALL SELECT n FROM again
