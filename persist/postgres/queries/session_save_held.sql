-- Purpose: replace packet state that names messages of a lane [SESSION-2], if the
-- lease is held [SESSION-5], and not from before a crash of the server, and no higher
-- epoch has the session [SESSION-3]. Who takes the lane meanwhile raises that epoch
-- before it reads the states. A late save leaves the states as they are [SESSION-6].
-- Parameters: $1 key of the client ID, $2 client ID, $3 epoch, $4 number, $5 states, $6 lane.
-- Result: changes one row, or none if the lease was lost or the epoch is higher.
INSERT INTO oncemq.sessions AS s (key, client_id, epoch, number, states)
SELECT $1::bytea, $2::bytea, $3::bigint, $4::bigint, $5::bytea FROM oncemq.lanes
WHERE lane = $6::smallint AND holder = $3::bigint AND life = (SELECT token FROM oncemq.life)
ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch,
  number = CASE WHEN s.epoch = excluded.epoch AND s.number > excluded.number THEN s.number ELSE excluded.number END,
  states = CASE WHEN s.epoch = excluded.epoch AND s.number > excluded.number THEN s.states ELSE excluded.states END
WHERE s.epoch <= excluded.epoch
