-- Purpose: replace packet state [SESSION-2], if no higher epoch has the session
-- [SESSION-3].
-- Parameters: $1 key of the client ID, $2 client ID, $3 epoch, $4 states.
-- Result: changes one row, or none if the epoch is higher.
INSERT INTO oncemq.sessions AS s (key, client_id, epoch, states) VALUES ($1::bytea, $2::bytea, $3::bigint, $4::bytea)
ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch, states = excluded.states WHERE s.epoch <= excluded.epoch
