-- Purpose: where the sweep of keys goes on. Of two who sweep at once the second
-- finds nothing to do.
-- Parameters: none.
-- Result: one row: part, group, key; or none.
SELECT part, group_id, key FROM oncemq.sweep FOR UPDATE SKIP LOCKED
