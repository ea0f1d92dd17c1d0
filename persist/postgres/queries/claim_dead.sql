-- Purpose: have the mark of a key tell that it ended with a dead letter [CLAIM-10].
-- Parameters: $1 group, as stored, $2 key, as stored.
-- Result: changes one row, or none.
UPDATE oncemq.processed SET dead = true
WHERE group_id = (SELECT id FROM oncemq.groups WHERE key = $1::bytea) AND key = $2::bytea AND NOT dead
