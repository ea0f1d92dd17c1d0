-- Purpose: mark the keys as processed that claim has just taken within this
-- transaction [CLAIM-9].
-- Parameters: $1 group, $2 keys in ascending order, $3 length of the window.
-- Result: none.
WITH t AS MATERIALIZED (
  SELECT oncemq.now_ms() AS now, current_setting('oncemq_saved.epoch')::bigint AS epoch
), gone AS (
  DELETE FROM oncemq.claims c USING t, unnest(array_fill($1::int, ARRAY[cardinality($2::bytea[])]), $2::bytea[]) AS k (group_id, key)
  WHERE c.group_id = k.group_id AND c.key = k.key AND c.epoch = t.epoch
  RETURNING c.key, c.epoch
)
INSERT INTO oncemq.processed (group_id, key, epoch, until)
SELECT $1::int, gone.key, gone.epoch, t.now + $3::bigint FROM gone, t
ON CONFLICT (group_id, key) DO UPDATE SET epoch = excluded.epoch, until = excluded.until, dead = false
