-- Purpose: the counters of the whole store.
-- Parameters: none.
-- Result: one row: failed, expired, consumer_dead.
SELECT failed, expired, consumer_dead FROM oncemq_totals
