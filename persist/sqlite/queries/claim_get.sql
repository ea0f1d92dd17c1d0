-- Purpose: see where a key stands.
-- Parameters: ?1 group, ?2 key.
-- Result: one row: state, epoch, until, attempts, owner; or none.
SELECT state, epoch, until, attempts, owner FROM oncemq_processed WHERE group_id = ?1 AND key = ?2
