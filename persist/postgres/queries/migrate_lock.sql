-- Purpose: let one process migrate at a time, until its transaction ends.
-- Parameters: $1 schema.
-- Result: one row of no use.
SELECT pg_advisory_xact_lock(1868784485, hashtext($1::text))
