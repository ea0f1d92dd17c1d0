-- Purpose: the same for messages that were sent again because no receipt came,
-- which counts as an attempt.
-- Parameters: ?1 first, ?2 last position, ?3 when to send them again.
-- Result: changes the rows that were delivered before and are due.
UPDATE oncemq_outbox SET due = ?3, attempts = attempts + 1
WHERE position BETWEEN ?1 AND ?2 AND state = 1
