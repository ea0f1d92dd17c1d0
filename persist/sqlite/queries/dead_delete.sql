-- Purpose: delete a dead letter.
-- Parameters: ?1 number.
-- Result: changes one row.
DELETE FROM oncemq_dead_letters WHERE number = ?1
