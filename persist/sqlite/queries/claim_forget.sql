-- Purpose: forget a key that was completed.
-- Parameters: ?1 group, ?2 key.
-- Result: one row with until; none if it was not there or not completed.
DELETE FROM oncemq_processed WHERE group_id = ?1 AND key = ?2 AND state IN (1, 3) RETURNING until
