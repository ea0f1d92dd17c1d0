-- Purpose: see whether a dead letter is there, and what key it is of.
-- Parameters: ?1 number.
-- Result: one row: group_name, key; or none.
SELECT group_name, key FROM oncemq_dead_letters WHERE number = ?1
