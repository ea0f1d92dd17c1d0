-- Purpose: extend the leases of claims.
-- Parameters: $1 group, as stored, $2 keys in ascending order, $3 epochs, $4 length of
-- the lease, $5 attempts.
-- Result: places in the parameters of those that are held.
UPDATE oncemq.claims c SET until = t.now + $4::bigint, attempts = k.attempts
FROM (SELECT oncemq.now_ms() AS now) t,
  unnest(array_fill((SELECT id FROM oncemq.groups WHERE key = $1::bytea), ARRAY[cardinality($2::bytea[])]), $2::bytea[],
    $3::bigint[], $5::int[]) WITH ORDINALITY AS k (group_id, key, epoch, attempts, n)
WHERE c.group_id = k.group_id AND c.key = k.key AND c.epoch = k.epoch AND NOT c.released
RETURNING k.n
