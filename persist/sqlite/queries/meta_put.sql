-- Purpose: record what is settled when the store is created or migrated.
-- Parameters: ?1 name, ?2 value.
-- Result: none.
INSERT INTO oncemq_meta (name, value) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
