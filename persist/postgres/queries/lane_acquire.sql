-- Purpose: take the lease of a lane that is free, or the owner's own. A lease from before a crash of
-- the server counts for nothing. The crash may have taken back leases that were
-- given out: their epochs are left out, lest two holders have the same.
-- Parameters: $1 lane, $2 owner, $3 length of the lease.
-- Result: one row: the new epoch, until when an earlier holder may have sent, the
-- highest position that was given out; none if the lease is held.
UPDATE oncemq.lanes
SET epoch = epoch + CASE WHEN life = f.token THEN 1 ELSE 1048576 END,
  holder = epoch + CASE WHEN life = f.token THEN 1 ELSE 1048576 END,
  owner = $2::bytea, lease_until = t.now + $3::bigint, life = f.token
FROM (SELECT oncemq.now_ms() AS now) t, oncemq.life f
WHERE lane = $1::smallint AND (holder = 0 OR lease_until <= t.now OR life <> f.token
  OR owner = $2::bytea AND $2::bytea <> ''::bytea)
RETURNING epoch, sent_until, coalesce(pg_sequence_last_value(positions), 0)
