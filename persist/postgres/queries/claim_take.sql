-- Purpose: take the keys that were released, and those whose leases have ended. A
-- later epoch may have come and gone; such a key is not taken with an older one, and
-- the caller asks for it again.
-- Parameters: as of claim.
-- Result: key and attempts of those that were taken.
WITH t AS MATERIALIZED (
  SELECT oncemq.now_ms() AS now, current_setting('oncemq_saved.epoch')::bigint AS epoch
)
UPDATE oncemq.claims c
SET epoch = t.epoch, until = t.now + $2::bigint, attempts = c.attempts + 1, released = false, owner = $3::bytea
FROM t, unnest(array_fill(current_setting('oncemq_saved.group')::int, ARRAY[cardinality($1::bytea[])]), $1::bytea[])
  AS k (group_id, key)
WHERE current_setting('oncemq_saved.open')::bigint > 0
AND c.group_id = k.group_id AND c.key = k.key AND (c.released OR c.until <= t.now) AND c.epoch < t.epoch
AND NOT EXISTS (
  SELECT FROM oncemq.processed p WHERE p.group_id = k.group_id AND p.key = k.key AND (p.until > t.now OR p.epoch >= t.epoch)
)
RETURNING c.key, c.attempts
