-- Purpose: give keys back. The rows stay until the lease would have ended, and
-- longer: they remember the attempts.
-- Parameters: $1 group, as stored, $2 keys in ascending order, $3 epochs, $4 attempts.
-- Result: changes the rows that were held.
UPDATE oncemq.claims c SET released = true, attempts = k.attempts
FROM unnest(array_fill((SELECT id FROM oncemq.groups WHERE key = $1::bytea), ARRAY[cardinality($2::bytea[])]), $2::bytea[],
  $3::bigint[], $4::int[]) AS k (group_id, key, epoch, attempts)
WHERE c.group_id = k.group_id AND c.key = k.key AND c.epoch = k.epoch AND NOT c.released
