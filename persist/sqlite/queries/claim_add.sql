-- Purpose: mark a key that is not known as completed, which nearly all are.
-- Parameters: ?1 group, ?2 key, ?3 epoch, ?4 until.
-- Result: changes one row; none if the key is known.
INSERT INTO oncemq_processed (group_id, key, state, epoch, owner, until, attempts)
VALUES (?1, ?2, 1, ?3, NULL, ?4, 1)
ON CONFLICT (group_id, key) DO NOTHING
