-- Purpose: let no key be forgotten between a claim's epoch and its row. Otherwise
-- a claim that was held up in between would find the key free although a later
-- epoch has come and gone, and take it with an older one.
-- Parameters: none.
-- Result: one row of no use.
SELECT pg_advisory_xact_lock_shared(1868784487, 'oncemq.claims'::regclass::oid::bigint::bit(32)::int)
