-- Purpose: up to which key a part of the sweep reaches.
-- Parameters: ?1 and ?2 group and key after which it begins, ?3 number of keys
-- minus one.
-- Result: one row: group_id, key; none if fewer keys are left.
SELECT group_id, key FROM oncemq_processed
WHERE (group_id, key) > (?1, ?2)
ORDER BY group_id, key LIMIT 1 OFFSET ?3
