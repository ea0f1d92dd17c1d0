-- Purpose: list the groups.
-- Parameters: none.
-- Result: a row for each group with its name, in order.
SELECT name FROM oncemq_groups ORDER BY name
