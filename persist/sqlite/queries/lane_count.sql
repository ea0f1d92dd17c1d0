-- Purpose: keep the counters of a lane right after messages left it.
-- Parameters: ?1 lane; ?2 to ?6 what is added to pending, delivered, dropped,
-- superseded and bytes.
-- Result: changes one row.
UPDATE oncemq_lanes
SET pending = pending + ?2, delivered = delivered + ?3, dropped = dropped + ?4,
  superseded = superseded + ?5, bytes = bytes + ?6
WHERE lane = ?1
