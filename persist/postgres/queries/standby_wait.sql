-- Purpose: have the commit wait for the synchronous standbys, if there are any, also if
-- the transaction changes nothing. What it finds may be a change that no standby has
-- yet: one whose caller gave up the wait, which does not take the commit back.
-- Parameters: none.
-- Result: one row of no use.
SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
  THEN pg_logical_emit_message(true, 'oncemq', '')::text END
