-- Purpose: record refusals.
-- Parameters: $1 lane, $2 epoch, $3 positions, $4 reasons, $5 how often each was
-- refused, $6 the reasons of the first of these refusals.
-- Result: changes the rows that are there.
UPDATE oncemq.outbox o SET attempts = o.attempts + r.times, last_error = r.reason, last_at = t.now,
  first_error = coalesce(o.first_error, r.first), first_at = coalesce(o.first_at, t.now)
FROM (SELECT oncemq.now_ms() AS now) t, unnest($3::bigint[], $4::bytea[], $5::int[], $6::bytea[]) AS r (position, reason, times, first)
WHERE o.position = r.position
  AND EXISTS (SELECT FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint)
