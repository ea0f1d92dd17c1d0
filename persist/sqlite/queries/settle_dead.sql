-- Purpose: copy a message to the dead letters.
-- Parameters: ?1 position, ?2 state, ?3 reason code, ?4 reason, ?5 now, ?6 what
-- is added to its attempts.
-- Result: changes one row; none if the message is gone.
INSERT INTO oncemq_dead_letters (side, state, position, reason_code, reason, attempts, at, body)
SELECT 1, ?2, position, ?3, ?4, attempts + ?6, ?5, body FROM oncemq_outbox WHERE position = ?1
