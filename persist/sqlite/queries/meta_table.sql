-- Purpose: tell whether this database has the store's tables.
-- Parameters: none.
-- Result: one row with 1, or none.
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'oncemq_meta'
