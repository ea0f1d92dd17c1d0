-- Purpose: end a transaction and keep what it did.
-- Parameters: none.
-- Result: none.
COMMIT
