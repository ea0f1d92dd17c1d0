-- Purpose: end a part of a caller's transaction.
-- Parameters: none.
-- Result: none.
RELEASE SAVEPOINT oncemq_part
