-- Purpose: delete one message.
-- Parameters: ?1 position.
-- Result: changes one row, or none.
DELETE FROM oncemq_outbox WHERE position = ?1
