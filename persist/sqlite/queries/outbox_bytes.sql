-- Purpose: count the bytes of the messages of one state.
-- Parameters: ?1 and ?2 the positions between which they are (exclusive), ?3
-- state.
-- Result: one row with the number.
SELECT coalesce(sum(length(body)), 0) FROM oncemq_outbox NOT INDEXED
WHERE position > ?1 AND position < ?2 AND state = ?3
