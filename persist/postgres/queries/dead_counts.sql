-- Purpose: the counters of the dead letters.
-- Parameters: none.
-- Result: one row: failed, expired, of consumers.
SELECT coalesce(sum(failed), 0)::bigint, coalesce(sum(expired), 0)::bigint, coalesce(sum(consumer), 0)::bigint
FROM oncemq.dead_counts
