-- Purpose: give the caller's transaction its settings back.
-- Parameters: none.
-- Result: one row of no use.
SELECT set_config('enable_seqscan', current_setting('oncemq_saved.seqscan'), true),
  set_config('enable_bitmapscan', current_setting('oncemq_saved.bitmapscan'), true),
  set_config('enable_hashjoin', current_setting('oncemq_saved.hashjoin'), true),
  set_config('enable_mergejoin', current_setting('oncemq_saved.mergejoin'), true),
  set_config('jit', current_setting('oncemq_saved.jit'), true),
  set_config('plan_cache_mode', current_setting('oncemq_saved.plan_cache_mode'), true)
