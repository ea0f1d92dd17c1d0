-- Purpose: tell what became of messages, in one snapshot, so that one which
-- becomes a dead letter meanwhile is seen on one side or the other.
-- Parameters: ?1 positions as a JSON array.
-- Result: position, state, reason_code, reason; of a message that is gone,
-- nothing.
SELECT position, state, 0, last_error FROM oncemq_outbox
WHERE position IN (SELECT value FROM json_each(?1))
UNION ALL
SELECT position, state, reason_code, reason FROM oncemq_dead_letters
WHERE position IN (SELECT value FROM json_each(?1))
UNION ALL
SELECT position, state, 0, NULL FROM oncemq_gave_way
WHERE position IN (SELECT value FROM json_each(?1))
