-- Purpose: extend the lease of a claim.
-- Parameters: ?1 group, ?2 key, ?3 epoch, ?4 until, ?5 attempts.
-- Result: changes one row; none if the claim was lost.
UPDATE oncemq_processed SET until = ?4, attempts = ?5
WHERE group_id = ?1 AND key = ?2 AND epoch = ?3 AND state = 0
