-- Purpose: make sure of a session until the transaction ends [SESSION-3]; what
-- follows asks for the same epoch.
-- Parameters: $1 key of the client ID, $2 epoch.
-- Result: one row, or none if a higher epoch has used the session.
SELECT 1 FROM oncemq.sessions WHERE key = $1::bytea AND epoch = $2::bigint FOR NO KEY UPDATE
