-- Purpose: mark the keys as processed that claim has just taken within this
-- transaction [CLAIM-9].
-- Parameters: $1 keys in ascending order, $2 length of the window.
-- Result: none.
WITH t AS MATERIALIZED (
  SELECT oncemq.now_ms() AS now, current_setting('oncemq_saved.epoch')::bigint AS epoch
), gone AS (
  DELETE FROM oncemq.claims c
  USING t, unnest(array_fill(current_setting('oncemq_saved.group')::int, ARRAY[cardinality($1::bytea[])]), $1::bytea[])
    AS k (group_id, key)
  WHERE c.group_id = k.group_id AND c.key = k.key AND c.epoch = t.epoch
  RETURNING c.group_id, c.key, c.epoch
)
INSERT INTO oncemq.processed (group_id, key, epoch, until)
SELECT gone.group_id, gone.key, gone.epoch, t.now + $2::bigint FROM gone, t
ON CONFLICT (group_id, key) DO UPDATE SET epoch = excluded.epoch, until = excluded.until, dead = false
