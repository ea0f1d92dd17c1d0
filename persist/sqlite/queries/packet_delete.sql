-- Purpose: forget exchanges.
-- Parameters: ?1 session, ?2 whether the server began them, ?3 packet
-- identifiers as a JSON array.
-- Result: changes the deleted rows.
DELETE FROM oncemq_packets
WHERE session = ?1 AND received = ?2 AND packet_id IN (SELECT value FROM json_each(?3))
