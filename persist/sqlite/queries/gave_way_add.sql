-- Purpose: remember what became of a message that gave way [OUTBOX-15].
-- Parameters: ?1 position, ?2 state.
-- Result: changes one row.
INSERT INTO oncemq_gave_way (position, state) VALUES (?1, ?2)
