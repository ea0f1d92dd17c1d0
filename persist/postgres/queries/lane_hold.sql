-- Purpose: make sure of a lease until the transaction ends [LEASE-3]. What
-- follows in the transaction asks for the same holder, and does nothing if this
-- finds none: an epoch that is not the holder's never becomes it again. A lease
-- from before a crash of the server ends here: the holder may know of messages
-- that the crash took back, whose positions others have now.
-- Parameters: $1 lane, $2 epoch.
-- Result: one row, or none if the lease was lost.
WITH ended AS (
  UPDATE oncemq.lanes SET holder = 0
  WHERE lane = $1::smallint AND holder = $2::bigint AND life IS DISTINCT FROM (SELECT token FROM oncemq.life)
)
SELECT 1 FROM oncemq.lanes
WHERE lane = $1::smallint AND holder = $2::bigint AND life = (SELECT token FROM oncemq.life)
FOR NO KEY UPDATE
