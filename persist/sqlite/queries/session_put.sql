-- Purpose: add a session or raise its epoch.
-- Parameters: ?1 client ID, ?2 epoch.
-- Result: one row with its id.
INSERT INTO oncemq_sessions (client_id, epoch) VALUES (?1, ?2)
ON CONFLICT (client_id) DO UPDATE SET epoch = excluded.epoch
RETURNING id
