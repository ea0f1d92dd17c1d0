-- Purpose: number a group, unless that was done.
-- Parameters: $1 key of the name, $2 name.
-- Result: none.
INSERT INTO oncemq.groups (key, name) VALUES ($1::bytea, $2::bytea) ON CONFLICT (key) DO NOTHING
