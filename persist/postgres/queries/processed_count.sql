-- Purpose: count processed keys: exactly up to a bound, by the table's statistics
-- beyond.
-- Parameters: $1 bound.
-- Result: one row: completed keys, keys in work.
SELECT CASE WHEN c.n < $1::bigint THEN c.n ELSE greatest(c.n, (
    SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = 'oncemq.processed'::regclass)) END,
  CASE WHEN w.n < $1::bigint THEN w.n ELSE greatest(w.n, (
    SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = 'oncemq.claims'::regclass)) END
FROM (SELECT count(*) AS n FROM (SELECT FROM oncemq.processed LIMIT $1::bigint) p) c,
  (SELECT count(*) AS n FROM (SELECT FROM oncemq.claims WHERE NOT released LIMIT $1::bigint) p) w
