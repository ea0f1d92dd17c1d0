-- Purpose: count the messages in the outbox, and their bytes.
-- Parameters: none.
-- Result: one row with both numbers.
SELECT coalesce(sum(pending + delivered), 0), coalesce(sum(bytes), 0) FROM oncemq_lanes
