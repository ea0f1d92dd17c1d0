-- Purpose: find up to where a purge that is limited reaches.
-- Parameters: ?1 and ?2 the positions between which to delete (exclusive), ?3
-- the states, each a bit, ?4 limit minus one.
-- Result: one row with a position; none if there are fewer messages than that.
SELECT position FROM oncemq_outbox NOT INDEXED
WHERE position > ?1 AND position < ?2 AND (1 << state) & ?3 <> 0
ORDER BY position LIMIT 1 OFFSET ?4
