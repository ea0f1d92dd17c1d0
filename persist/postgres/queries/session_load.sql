-- Purpose: read packet state and raise the session's epoch [SESSION-1]. Numbers begin
-- anew with it [SESSION-6].
-- Parameters: $1 key of the client ID, $2 client ID, $3 epoch.
-- Result: one row: states; or none if the epoch is higher.
INSERT INTO oncemq.sessions AS s (key, client_id, epoch, number, states) VALUES ($1::bytea, $2::bytea, $3::bigint, 0, '')
ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch,
  number = CASE WHEN s.epoch < excluded.epoch THEN 0 ELSE s.number END
WHERE s.epoch <= excluded.epoch
RETURNING states
