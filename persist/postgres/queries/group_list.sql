-- Purpose: list the groups.
-- Parameters: none.
-- Result: a row for each group with its name, in order.
SELECT name FROM oncemq.groups ORDER BY name
