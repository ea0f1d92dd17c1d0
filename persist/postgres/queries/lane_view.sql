-- Purpose: what Next must know before it reads, and the time by which all its
-- statements read, which is kept for them. Locks say nothing about a snapshot that
-- is older than the look at them, as with other isolation levels.
-- Parameters: $1 lane, $2 the latest time that it has read by before, $3 whether
-- to take a number, $4 whether to look at the locks.
-- Result: one row: holder (0 if the lease is from before a crash of the server),
-- time, oldest transaction under way, our number or zero, highest position that
-- was given out, the transactions that may have inserted or NULL.
SELECT CASE WHEN life = (SELECT token FROM oncemq.life) THEN holder ELSE 0 END,
  set_config('oncemq_saved.now', greatest(oncemq.now_ms(), $2::bigint)::text, true)::bigint,
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
  CASE WHEN $3::boolean THEN pg_current_xact_id()::text::bigint ELSE 0 END,
  coalesce(pg_sequence_last_value(positions), 0),
  CASE WHEN $4::boolean AND current_setting('transaction_isolation') = 'read committed' THEN ARRAY(
    SELECT virtualtransaction FROM pg_catalog.pg_locks
    WHERE relation = 'oncemq.outbox'::regclass AND mode = 'RowExclusiveLock'
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  ) END
FROM oncemq.lanes
WHERE lane = $1::smallint
