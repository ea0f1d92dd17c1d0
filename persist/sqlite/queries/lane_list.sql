-- Purpose: describe all lanes.
-- Parameters: none.
-- Result: lane, owner, epoch, holder, lease_until, pending, delivered, dropped,
-- superseded, bytes; in the order of the lanes.
SELECT lane, owner, epoch, holder, lease_until, pending, delivered, dropped, superseded, bytes
FROM oncemq_lanes ORDER BY lane
