-- Purpose: give positions to new messages.
-- Parameters: ?1 lane, ?2 number of messages, ?3 their bytes.
-- Result: one row with the first of the positions; none if there is no such
-- lane.
UPDATE oncemq_lanes SET next = next + ?2, pending = pending + ?2, bytes = bytes + ?3
WHERE lane = ?1
RETURNING next - ?2
