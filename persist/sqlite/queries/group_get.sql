-- Purpose: the number of a group.
-- Parameters: ?1 name.
-- Result: one row with the number, or none.
SELECT id FROM oncemq_groups WHERE name = ?1
