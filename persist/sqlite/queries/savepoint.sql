-- Purpose: start a part of a transaction that can be undone alone.
-- Parameters: none.
-- Result: none.
SAVEPOINT oncemq_step
