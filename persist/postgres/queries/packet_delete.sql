-- Purpose: forget exchanges.
-- Parameters: $1 key of the client ID, $2 epoch, $3 whether the server began them,
-- $4 packet identifiers.
-- Result: changes the deleted rows.
DELETE FROM oncemq.packets p USING oncemq.sessions s, unnest($4::int[]) AS d (packet_id)
WHERE s.key = $1::bytea AND s.epoch = $2::bigint AND p.session = s.id
  AND p.received = $3::boolean AND p.packet_id = d.packet_id
