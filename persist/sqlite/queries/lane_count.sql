-- Purpose: keep the counters of a lane right after messages left it.
-- Parameters: ?1 lane; ?2, ?3 and ?4 what is added to pending, delivered and
-- dropped.
-- Result: changes one row.
UPDATE oncemq_lanes
SET pending = pending + ?2, delivered = delivered + ?3, dropped = dropped + ?4
WHERE lane = ?1
