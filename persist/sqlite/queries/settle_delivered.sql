-- Purpose: delete delivered messages that ask for no receipt. Between the two
-- positions there is no message but those that were settled.
-- Parameters: ?1 first, ?2 last position.
-- Result: changes the deleted rows, all of which were pending.
DELETE FROM oncemq_outbox WHERE position BETWEEN ?1 AND ?2 AND receipt = 0
