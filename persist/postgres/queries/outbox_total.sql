-- Purpose: count the messages in the outbox, and their bytes.
-- Parameters: none.
-- Result: one row with both numbers.
SELECT sum(messages)::bigint, sum(bytes)::bigint FROM (
  SELECT coalesce(sum(pending + delivered), 0) AS messages, coalesce(sum(bytes), 0) AS bytes FROM oncemq.lanes
  UNION ALL SELECT coalesce(sum(pending + delivered), 0), coalesce(sum(bytes), 0) FROM oncemq.arrivals
) t
