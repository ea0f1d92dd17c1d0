-- Purpose: wait until the claims under way are through, before keys are forgotten;
-- see claim_lock.
-- Parameters: none.
-- Result: one row of no use.
SELECT pg_advisory_xact_lock(1868784487, 'oncemq.claims'::regclass::oid::bigint::bit(32)::int)
