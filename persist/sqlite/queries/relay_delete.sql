-- Purpose: take a relay off the list, with those whose announcement has ended.
-- Parameters: ?1 owner (NULL for none), ?2 now.
-- Result: changes the deleted rows.
DELETE FROM oncemq_relays WHERE owner = ?1 OR until <= ?2
