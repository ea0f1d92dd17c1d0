-- Purpose: announce a relay.
-- Parameters: ?1 owner, ?2 until.
-- Result: changes one row.
INSERT INTO oncemq_relays (owner, until) VALUES (?1, ?2)
ON CONFLICT (owner) DO UPDATE SET until = excluded.until
