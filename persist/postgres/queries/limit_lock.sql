-- Purpose: let one transaction at a time count and add, one that sees what the others
-- have added.
-- Parameters: none.
-- Result: one row of no use.
SELECT oncemq.demand_read_committed(), pg_advisory_xact_lock(1868784486, 'oncemq.lanes'::regclass::oid::bigint::bit(32)::int)
