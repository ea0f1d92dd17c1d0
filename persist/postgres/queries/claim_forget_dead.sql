-- Purpose: forget keys that were completed with dead letters [DEAD-4].
-- Parameters: $1 groups, as stored, $2 keys, as stored.
-- Result: none.
DELETE FROM oncemq.processed p USING unnest($1::bytea[], $2::bytea[]) AS k (group_key, key), oncemq.groups g
WHERE g.key = k.group_key AND p.group_id = g.id AND p.key = k.key AND p.dead
