-- Purpose: read what was settled when the store was created.
-- Parameters: ?1 name.
-- Result: one row with the value, or none.
SELECT value FROM oncemq_meta WHERE name = ?1
