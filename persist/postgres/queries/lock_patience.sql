-- Purpose: give up waiting for a lock after a time, for the rest of the transaction.
-- Parameters: $1 milliseconds.
-- Result: one row of no use.
SELECT set_config('lock_timeout', $1::bigint::text, true)
