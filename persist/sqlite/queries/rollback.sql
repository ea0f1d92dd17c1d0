-- Purpose: end a transaction and undo what it did.
-- Parameters: none.
-- Result: none.
ROLLBACK
