-- Purpose: copy a message to the dead letters.
-- Parameters: ?1 position, ?2 state, ?3 reason code, ?4 reason, ?5 now, ?6 what
-- is added to its attempts.
-- Result: changes one row; none if the message is gone.
INSERT INTO oncemq_dead_letters (side, state, position, reason_code, reason, attempts, at,
  first_error, first_at, last_error, last_at, expiry, body)
SELECT 1, ?2, position, ?3, ?4, attempts + ?6, ?5,
  CASE WHEN first_at IS NULL AND ?2 = 3 THEN ?4 ELSE coalesce(first_error, '') END,
  CASE WHEN first_at IS NULL AND ?2 = 3 THEN ?5 ELSE coalesce(first_at, 0) END,
  iif(?2 = 3, ?4, coalesce(last_error, '')), iif(?2 = 3, ?5, coalesce(last_at, 0)),
  coalesce(expires - enqueued_at, 0), body
FROM oncemq_outbox WHERE position = ?1
