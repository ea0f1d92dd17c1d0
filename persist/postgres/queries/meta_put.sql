-- Purpose: record what is settled when the store is created or migrated.
-- Parameters: $1 name, $2 value.
-- Result: changes one row.
INSERT INTO oncemq.meta (name, value) VALUES ($1::text, $2::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
