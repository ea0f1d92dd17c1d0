-- Purpose: make sure of a lease until the transaction ends [LEASE-3]. What
-- follows in the transaction asks for the same holder, and does nothing if this
-- finds none: an epoch that is not the holder's never becomes it again.
-- Parameters: $1 lane, $2 epoch.
-- Result: one row, or none if the lease was lost.
SELECT 1 FROM oncemq.lanes WHERE lane = $1::smallint AND holder = $2::bigint FOR NO KEY UPDATE
