-- Purpose: undo the innermost part of a transaction, which stays open.
-- Parameters: none.
-- Result: none.
ROLLBACK TO oncemq_step
