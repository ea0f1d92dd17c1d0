-- Purpose: name the rights that a role lacks to use the store.
-- Parameters: $1 schema.
-- Result: right and object, one in a row.
SELECT p.name || ' on ' || n.nspname || '.' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
  unnest(CASE c.relkind WHEN 'r' THEN ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] ELSE ARRAY['USAGE'] END) AS p (name)
WHERE n.nspname = $1::name AND c.relkind IN ('r', 'S') AND NOT CASE c.relkind
  WHEN 'r' THEN has_table_privilege(c.oid, p.name) ELSE has_sequence_privilege(c.oid, p.name) END
ORDER BY 1
