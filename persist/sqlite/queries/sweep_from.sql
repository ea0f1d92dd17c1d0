-- Purpose: where the sweep of processed keys goes on.
-- Parameters: none.
-- Result: one row: sweep_group, sweep_key.
SELECT sweep_group, sweep_key FROM oncemq_totals
