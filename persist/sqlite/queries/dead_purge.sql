-- Purpose: delete dead letters.
-- Parameters: as of dead_list.
-- Result: changes the deleted rows.
DELETE FROM oncemq_dead_letters WHERE number IN (
  SELECT number FROM oncemq_dead_letters
  WHERE number > ?1 AND number <= ?8 AND (?2 = 0 OR side = ?2) AND (?3 = '' OR group_name = ?3)
    AND (?4 IS NULL OR number IN (SELECT value FROM json_each(?4)))
    AND (?5 IS NULL OR reason_code IN (SELECT value FROM json_each(?5)))
    AND (?6 IS NULL OR at <= ?6)
  ORDER BY number LIMIT ?7)
