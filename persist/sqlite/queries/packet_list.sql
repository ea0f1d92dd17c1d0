-- Purpose: the packet state of a session.
-- Parameters: ?1 session.
-- Result: packet_id, step, position, sequence; in the order of sequence.
SELECT packet_id, step, position, sequence FROM oncemq_packets
WHERE session = ?1 ORDER BY sequence, received, packet_id
