-- Purpose: end a lease.
-- Parameters: $1 lane, $2 epoch.
-- Result: changes one row; none if the lease was lost.
UPDATE oncemq.lanes SET holder = 0, lease_until = t.now, sent_until = least(sent_until, t.now)
FROM (SELECT oncemq.now_ms() AS now) t
WHERE lane = $1::smallint AND holder = $2::bigint
