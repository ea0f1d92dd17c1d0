-- Purpose: keep delivered messages until their receipt comes.
-- Parameters: ?1 first, ?2 last position, ?3 when to send them again.
-- Result: changes the rows that were pending.
UPDATE oncemq_outbox SET state = 1, due = ?3
WHERE position BETWEEN ?1 AND ?2 AND receipt = 1 AND state = 0
