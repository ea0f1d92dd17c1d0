-- Purpose: forget keys that were completed.
-- Parameters: $1 group, as stored, $2 keys in ascending order.
-- Result: one row: how many there were whose window was open.
WITH gone AS (
  DELETE FROM oncemq.processed p
  USING unnest(array_fill((SELECT id FROM oncemq.groups WHERE key = $1::bytea), ARRAY[cardinality($2::bytea[])]), $2::bytea[]) AS k (group_id, key)
  WHERE p.group_id = k.group_id AND p.key = k.key RETURNING p.until
)
SELECT count(*) FILTER (WHERE until > (SELECT oncemq.now_ms())) FROM gone
