-- Purpose: give the transaction its number before the first position is taken,
-- where it is not known yet how many messages will be added.
-- Parameters: none.
-- Result: one row of no use.
SELECT pg_current_xact_id()::text
