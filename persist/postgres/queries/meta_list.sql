-- Purpose: read what was settled when the store was created.
-- Parameters: none.
-- Result: name, value.
SELECT name, value FROM oncemq.meta
