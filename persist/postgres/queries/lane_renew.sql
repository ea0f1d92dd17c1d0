-- Purpose: extend a lease, even one that ended, unless it was taken over, or is
-- from before a crash of the server.
-- Parameters: $1 lane, $2 epoch, $3 length of the lease, $4 whether its holder
-- sends.
-- Result: changes one row; none if the lease was lost.
UPDATE oncemq.lanes
SET lease_until = t.now + $3::bigint,
  sent_until = CASE WHEN $4::boolean THEN greatest(sent_until, t.now + $3::bigint) ELSE sent_until END
FROM (SELECT oncemq.now_ms() AS now) t
WHERE lane = $1::smallint AND holder = $2::bigint AND life = (SELECT token FROM oncemq.life)
