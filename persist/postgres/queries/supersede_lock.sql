-- Purpose: let one transaction at a time add what supersedes under an ordering key.
-- Two that did it at once would not see each other's message, and both would wait.
-- A statement of its own, so that those that follow see what was committed before,
-- if the transaction is one that does.
-- Parameters: $1 hashes of the keys, in order.
-- Result: one row of no use.
SELECT oncemq.demand_read_committed(), count(pg_advisory_xact_lock(k.hash # ('oncemq.outbox'::regclass::oid::bigint << 32))) FROM unnest($1::bigint[]) AS k (hash)
