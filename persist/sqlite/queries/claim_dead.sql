-- Purpose: have the mark of a key tell that it ended with a dead letter.
-- Parameters: ?1 name of the group, ?2 key.
-- Result: changes one row, or none.
UPDATE oncemq_processed SET state = 3
WHERE group_id = (SELECT id FROM oncemq_groups WHERE name = ?1) AND key = ?2 AND state = 1
