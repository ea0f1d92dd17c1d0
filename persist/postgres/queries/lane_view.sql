-- Purpose: what Next must know before it reads, and the time by which all its
-- statements read, which is kept for them.
-- Parameters: $1 lane, $2 the latest time that it has read by before, $3 whether
-- to take a number.
-- Result: one row: holder, time, oldest transaction under way, our number or zero,
-- highest position that was given out.
SELECT holder, set_config('oncemq_saved.now', greatest(oncemq.now_ms(), $2::bigint)::text, true)::bigint,
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
  CASE WHEN $3::boolean THEN pg_current_xact_id()::text::bigint ELSE 0 END,
  coalesce(pg_sequence_last_value(positions), 0)
FROM oncemq.lanes
WHERE lane = $1::smallint
