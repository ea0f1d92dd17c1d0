-- Purpose: replace packet state [SESSION-2], if no higher epoch has the session
-- [SESSION-3]. A late save leaves the states as they are [SESSION-6].
-- Parameters: ?1 client ID, ?2 epoch, ?3 number, ?4 states.
-- Result: changes one row, or none if the epoch is higher.
INSERT INTO oncemq_sessions AS s (client_id, epoch, number, states) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (client_id) DO UPDATE SET epoch = excluded.epoch,
  number = CASE WHEN s.epoch = excluded.epoch AND s.number > excluded.number THEN s.number ELSE excluded.number END,
  states = CASE WHEN s.epoch = excluded.epoch AND s.number > excluded.number THEN s.states ELSE excluded.states END
WHERE s.epoch <= excluded.epoch
