-- Purpose: add a session, or raise its epoch.
-- Parameters: $1 key of the client ID, $2 client ID, $3 epoch.
-- Result: changes one row; none if the epoch is that or higher.
INSERT INTO oncemq.sessions AS s (key, client_id, epoch) VALUES ($1::bytea, $2::bytea, $3::bigint)
ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch WHERE s.epoch < excluded.epoch
