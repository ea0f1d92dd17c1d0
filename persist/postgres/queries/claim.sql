-- Purpose: take the keys that nobody has or remembers, if the group is there. The
-- unique index waits for whoever has touched a key and not ended its transaction.
-- The group is given beside each key, and not once, so that the planner cannot
-- look for it alone and then go through all keys of the group.
-- Parameters: $1 keys in ascending order, so that two of these cannot wait for each
-- other, $2 length of the lease, $3 owner.
-- Result: key and attempts of those that were taken, and a row of no use. How many
-- were not is kept for the statements that follow in the transaction.
WITH t AS MATERIALIZED (
  SELECT oncemq.now_ms() AS now, current_setting('oncemq_saved.epoch')::bigint AS epoch
), taken AS (
  INSERT INTO oncemq.claims (group_id, key, epoch, until, attempts, released, owner)
  SELECT k.group_id, k.key, t.epoch, t.now + $2::bigint, 1, false, $3::bytea
  FROM t, unnest(array_fill(current_setting('oncemq_saved.group')::int, ARRAY[cardinality($1::bytea[])]), $1::bytea[])
    WITH ORDINALITY AS k (group_id, key, n)
  WHERE k.group_id <> 0 AND NOT EXISTS (
    SELECT FROM oncemq.processed p WHERE p.group_id = k.group_id AND p.key = k.key AND (p.until > t.now OR p.epoch >= t.epoch)
  )
  ORDER BY k.n
  ON CONFLICT (group_id, key) DO NOTHING -- which does not lock the row against its holder
  RETURNING key
)
SELECT key, 1 FROM taken
UNION ALL
SELECT ''::bytea, 0 FROM set_config('oncemq_saved.open', (cardinality($1::bytea[]) - (SELECT count(*) FROM taken))::text, true)
