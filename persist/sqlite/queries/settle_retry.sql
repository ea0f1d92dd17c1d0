-- Purpose: record a refusal.
-- Parameters: ?1 position, ?2 reason, ?3 now.
-- Result: changes one row, or none.
UPDATE oncemq_outbox SET attempts = attempts + 1, last_error = ?2, last_at = ?3,
  first_error = coalesce(first_error, ?2), first_at = coalesce(first_at, ?3)
WHERE position = ?1
