-- Purpose: count the bytes of what settle_delivered is about to delete.
-- Parameters: as of settle_delivered.
-- Result: one row with the number.
SELECT coalesce(sum(length(body)), 0) FROM oncemq_outbox NOT INDEXED
WHERE position BETWEEN ?1 AND ?2 AND receipt = 0
