-- Purpose: take the keys that are free. The unique index waits for whoever has
-- touched a key and not ended its transaction. Meanwhile a later epoch may have
-- come and gone; such a key is not taken with an older one, and the caller asks
-- for it again.
-- The group is given beside each key, and not once, so that the planner cannot
-- look for it alone and then go through all keys of the group.
-- Parameters: $1 group, $2 keys in ascending order, so that two of these cannot
-- wait for each other, $3 length of the lease, $4 owner.
-- Result: key and attempts of those that were taken.
WITH t AS MATERIALIZED (
  SELECT oncemq.now_ms() AS now, current_setting('oncemq_saved.epoch')::bigint AS epoch
)
INSERT INTO oncemq.claims AS c (group_id, key, epoch, until, attempts, released, owner)
SELECT k.group_id, k.key, t.epoch, t.now + $3::bigint, 1, false, $4::bytea
FROM t, unnest(array_fill($1::int, ARRAY[cardinality($2::bytea[])]), $2::bytea[]) WITH ORDINALITY AS k (group_id, key, n)
WHERE NOT EXISTS (
  SELECT FROM oncemq.processed p WHERE p.group_id = k.group_id AND p.key = k.key AND (p.until > t.now OR p.epoch >= t.epoch)
)
AND NOT EXISTS ( -- else the row would be locked, against its holder
  SELECT FROM oncemq.claims h WHERE h.group_id = k.group_id AND h.key = k.key AND NOT h.released AND h.until > t.now
)
ORDER BY k.n
ON CONFLICT (group_id, key) DO UPDATE
SET epoch = excluded.epoch, until = excluded.until, attempts = c.attempts + 1, released = false, owner = excluded.owner
WHERE (c.released OR c.until <= (SELECT now FROM t)) AND c.epoch < excluded.epoch
RETURNING c.key, c.attempts
