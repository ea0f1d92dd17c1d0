-- Purpose: forget keys whose window has closed, and keys that nobody completed
-- long after their lease ended.
-- Parameters: ?1 and ?2 group and key after which to begin, ?3 and ?4 those to
-- end with, ?5 now, ?6 the time before which an uncompleted key is forgotten.
-- Result: a row for each that is deleted: state.
DELETE FROM oncemq_processed
WHERE (group_id, key) > (?1, ?2) AND (group_id, key) <= (?3, ?4)
  AND until <= iif(state IN (1, 3), ?5, ?6)
RETURNING state
