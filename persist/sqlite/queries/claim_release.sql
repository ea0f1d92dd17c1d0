-- Purpose: give a key back. The row stays until the lease would have ended, and
-- longer: it remembers the attempts.
-- Parameters: ?1 group, ?2 key, ?3 epoch, ?4 attempts.
-- Result: changes one row; none if the claim was lost.
UPDATE oncemq_processed SET state = 2, attempts = ?4
WHERE group_id = ?1 AND key = ?2 AND epoch = ?3 AND state = 0
