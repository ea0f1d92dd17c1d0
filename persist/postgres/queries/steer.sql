-- Purpose: keep the planner to the indexes for the rest of the transaction. A
-- table that was empty when a plan was cached would be read from end to end by
-- that plan once it has a million rows, and a queue is empty now and then.
-- Parameters: none.
-- Result: one row of no use.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
  set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
  set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)
