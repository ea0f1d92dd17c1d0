-- Purpose: the packet state of a session.
-- Parameters: $1 key of the client ID, $2 epoch.
-- Result: packet_id, step, position, sequence; in the order of sequence.
SELECT p.packet_id, p.step, p.position, p.sequence
FROM oncemq.sessions s JOIN oncemq.packets p ON p.session = s.id
WHERE s.key = $1::bytea AND s.epoch = $2::bigint
ORDER BY p.sequence, p.received, p.packet_id
