-- Purpose: record a refusal.
-- Parameters: ?1 position, ?2 reason.
-- Result: changes one row, or none.
UPDATE oncemq_outbox SET attempts = attempts + 1, last_error = ?2 WHERE position = ?1
