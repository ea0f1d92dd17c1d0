-- Purpose: the same up to the last key.
-- Parameters: ?1 and ?2 group and key after which to begin, ?3 now, ?4 the time
-- before which an uncompleted key is forgotten.
-- Result: a row for each that is deleted: state.
DELETE FROM oncemq_processed
WHERE (group_id, key) > (?1, ?2) AND until <= iif(state IN (1, 3), ?3, ?4)
RETURNING state
