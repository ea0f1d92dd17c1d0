-- Purpose: remember how far the sweep has come.
-- Parameters: ?1 group, ?2 key.
-- Result: changes one row.
UPDATE oncemq_totals SET sweep_group = ?1, sweep_key = ?2
