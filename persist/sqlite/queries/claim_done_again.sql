-- Purpose: mark as processed what is: completing twice is done twice.
-- Parameters: as in claim_complete.
-- Result: changes one row; none if the claim was lost or released.
UPDATE oncemq_processed SET state = max(state, ?5), until = ?4
WHERE group_id = ?1 AND key = ?2 AND epoch = ?3 AND state IN (1, 3)
