-- Purpose: undo a part of a caller's transaction, settings included.
-- Parameters: none.
-- Result: none.
ROLLBACK TO SAVEPOINT oncemq_part
