-- Purpose: record refusals.
-- Parameters: $1 lane, $2 epoch, $3 positions, $4 reasons, $5 how often each was
-- refused.
-- Result: changes the rows that are there.
UPDATE oncemq.outbox o SET attempts = o.attempts + r.times, last_error = r.reason
FROM unnest($3::bigint[], $4::bytea[], $5::int[]) AS r (position, reason, times)
WHERE o.position = r.position
  AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
