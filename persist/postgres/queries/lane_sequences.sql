-- Purpose: the sequences of the lanes.
-- Parameters: none.
-- Result: object identifiers, in the order of the lanes.
SELECT positions::oid::bigint FROM oncemq.lanes ORDER BY lane
