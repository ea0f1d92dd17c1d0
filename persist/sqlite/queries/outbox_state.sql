-- Purpose: see where a message stands.
-- Parameters: ?1 position.
-- Result: one row with its state, or none.
SELECT state FROM oncemq_outbox WHERE position = ?1
