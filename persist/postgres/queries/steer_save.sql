-- Purpose: remember the planner's settings in a transaction of the caller.
-- Parameters: none.
-- Result: one row of no use.
SELECT set_config('oncemq_saved.seqscan', current_setting('enable_seqscan'), true),
  set_config('oncemq_saved.bitmapscan', current_setting('enable_bitmapscan'), true),
  set_config('oncemq_saved.hashjoin', current_setting('enable_hashjoin'), true),
  set_config('oncemq_saved.mergejoin', current_setting('enable_mergejoin'), true),
  set_config('oncemq_saved.jit', current_setting('jit'), true),
  set_config('oncemq_saved.plan_cache_mode', current_setting('plan_cache_mode'), true)
