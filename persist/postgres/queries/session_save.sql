-- Purpose: replace packet state [SESSION-2], if no higher epoch has the session
-- [SESSION-3]. A late save leaves the states as they are [SESSION-6].
-- Parameters: $1 key of the client ID, $2 client ID, $3 epoch, $4 number, $5 states.
-- Result: changes one row, or none if the epoch is higher.
INSERT INTO oncemq.sessions AS s (key, client_id, epoch, number, states)
VALUES ($1::bytea, $2::bytea, $3::bigint, $4::bigint, $5::bytea)
ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch,
  number = CASE WHEN s.epoch = excluded.epoch AND s.number > excluded.number THEN s.number ELSE excluded.number END,
  states = CASE WHEN s.epoch = excluded.epoch AND s.number > excluded.number THEN s.states ELSE excluded.states END
WHERE s.epoch <= excluded.epoch
