-- Purpose: delete messages of one state.
-- Parameters: ?1 and ?2 the positions between which to delete (exclusive), ?3
-- state.
-- Result: changes the deleted rows.
DELETE FROM oncemq_outbox WHERE position > ?1 AND position < ?2 AND state = ?3
