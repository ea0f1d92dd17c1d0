-- Purpose: take the lease of a lane that is free.
-- Parameters: $1 lane, $2 owner, $3 length of the lease.
-- Result: one row: the new epoch, until when an earlier holder may have sent, the
-- highest position that was given out; none if the lease is held.
UPDATE oncemq.lanes
SET epoch = epoch + 1, holder = epoch + 1, owner = $2::bytea, lease_until = t.now + $3::bigint
FROM (SELECT oncemq.now_ms() AS now) t
WHERE lane = $1::smallint AND (holder = 0 OR lease_until <= t.now)
RETURNING epoch, sent_until, coalesce(pg_sequence_last_value(positions), 0)
