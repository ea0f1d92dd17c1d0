-- Purpose: see whether a lease is still the caller's, and up to where the lane
-- is filled.
-- Parameters: ?1 lane.
-- Result: one row: holder, next.
SELECT holder, next FROM oncemq_lanes WHERE lane = ?1
