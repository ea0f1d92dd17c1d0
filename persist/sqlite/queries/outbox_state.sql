-- Purpose: see where a message stands.
-- Parameters: ?1 position.
-- Result: one row with its state and its bytes, or none.
SELECT state, length(body) FROM oncemq_outbox WHERE position = ?1
