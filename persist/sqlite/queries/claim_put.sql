-- Purpose: take a key that is known and free.
-- Parameters: ?1 group, ?2 key, ?3 state, ?4 epoch, ?5 owner, ?6 until, ?7
-- attempts.
-- Result: changes one row.
INSERT INTO oncemq_processed (group_id, key, state, epoch, owner, until, attempts)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (group_id, key) DO UPDATE
SET state = excluded.state, epoch = excluded.epoch, owner = excluded.owner,
    until = excluded.until, attempts = excluded.attempts
