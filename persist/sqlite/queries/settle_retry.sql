-- Purpose: record a refusal. A delivered message that was sent again for want
-- of a receipt is pending again, and the missing receipt counts as well.
-- Parameters: ?1 position, ?2 reason.
-- Result: changes one row.
UPDATE oncemq_outbox
SET state = 0, due = iif(state = 1, NULL, due), attempts = attempts + 1 + state, last_error = ?2
WHERE position = ?1
