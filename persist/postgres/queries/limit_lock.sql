-- Purpose: let one transaction at a time count and add.
-- Parameters: none.
-- Result: one row of no use.
SELECT pg_advisory_xact_lock(1868784486, 'oncemq.lanes'::regclass::oid::bigint::bit(32)::int)
