-- Purpose: count processed keys; reads all of them.
-- Parameters: none.
-- Result: one row: completed keys, keys in work.
SELECT count(*) FILTER (WHERE state IN (1, 3)), count(*) FILTER (WHERE state = 0) FROM oncemq_processed
