-- Purpose: end the innermost part of a transaction.
-- Parameters: none.
-- Result: none.
RELEASE oncemq_step
