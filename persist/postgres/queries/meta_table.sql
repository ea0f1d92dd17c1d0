-- Purpose: tell whether the database has the schema, and the store in it.
-- Parameters: $1 schema.
-- Result: one row: whether there is the schema, whether there is its table meta.
SELECT count(n.oid) > 0, count(c.oid) > 0
FROM (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1::name) n
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'meta'
