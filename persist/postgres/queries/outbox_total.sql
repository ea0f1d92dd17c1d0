-- Purpose: count the messages in the outbox.
-- Parameters: none.
-- Result: one row with the number.
SELECT (SELECT coalesce(sum(pending + delivered), 0) FROM oncemq.lanes)::bigint
  + (SELECT coalesce(sum(pending + delivered), 0) FROM oncemq.arrivals)::bigint
