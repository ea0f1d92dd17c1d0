-- Purpose: mark a claimed key as processed.
-- Parameters: ?1 group, ?2 key, ?3 epoch, ?4 until, ?5 state: 1, or 3 with a dead
-- letter.
-- Result: changes one row; none if the claim was lost or released, or is completed.
UPDATE oncemq_processed SET state = ?5, owner = NULL, until = ?4
WHERE group_id = ?1 AND key = ?2 AND epoch = ?3 AND state = 0
