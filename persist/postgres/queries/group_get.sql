-- Purpose: the number of a group.
-- Parameters: $1 key of the name.
-- Result: one row with the number, or none.
SELECT id FROM oncemq.groups WHERE key = $1::bytea
