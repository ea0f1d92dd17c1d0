-- Purpose: the counters of the whole store.
-- Parameters: none.
-- Result: one row: failed, expired, consumer_dead, completed, in_work.
SELECT failed, expired, consumer_dead, completed, in_work FROM oncemq_totals
