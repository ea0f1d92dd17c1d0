-- Purpose: read packet state and raise the session's epoch [SESSION-1]. Numbers begin
-- anew with it [SESSION-6].
-- Parameters: ?1 client ID, ?2 epoch.
-- Result: one row: states; or none if the epoch is higher.
INSERT INTO oncemq_sessions AS s (client_id, epoch) VALUES (?1, ?2)
ON CONFLICT (client_id) DO UPDATE SET epoch = excluded.epoch,
  number = CASE WHEN s.epoch < excluded.epoch THEN 0 ELSE s.number END
WHERE s.epoch <= excluded.epoch
RETURNING states
