-- Purpose: replace packet state [SESSION-2], if no higher epoch has the session
-- [SESSION-3].
-- Parameters: ?1 client ID, ?2 epoch, ?3 states.
-- Result: changes one row, or none if the epoch is higher.
INSERT INTO oncemq_sessions AS s (client_id, epoch, states) VALUES (?1, ?2, ?3)
ON CONFLICT (client_id) DO UPDATE SET epoch = excluded.epoch, states = excluded.states WHERE s.epoch <= excluded.epoch
