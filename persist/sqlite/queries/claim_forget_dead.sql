-- Purpose: forget a key that was completed with a dead letter [DEAD-4].
-- Parameters: ?1 name of the group, ?2 key.
-- Result: changes one row, or none.
DELETE FROM oncemq_processed
WHERE group_id = (SELECT id FROM oncemq_groups WHERE name = ?1) AND key = ?2 AND state = 3
