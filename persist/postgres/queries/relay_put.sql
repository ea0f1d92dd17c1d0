-- Purpose: keep a relay among the live ones.
-- Parameters: $1 key of its name, $2 name, $3 for how long.
-- Result: changes one row.
INSERT INTO oncemq.relays (key, owner, until) VALUES ($1::bytea, $2::bytea, oncemq.now_ms() + $3::bigint)
ON CONFLICT (key) DO UPDATE SET until = excluded.until
