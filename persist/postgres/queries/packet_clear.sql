-- Purpose: forget the packet state of a session.
-- Parameters: $1 key of the client ID, $2 epoch.
-- Result: changes the deleted rows.
DELETE FROM oncemq.packets p USING oncemq.sessions s
WHERE s.key = $1::bytea AND s.epoch = $2::bigint AND p.session = s.id
