-- Purpose: list dead letters.
-- Parameters: ?1 number after which to begin, ?2 side (0: any), ?3 group (empty:
-- any), ?4 numbers as a JSON array (NULL: any), ?5 limit.
-- Result: number, side, state, position, group_name, key, reason_code, reason,
-- attempts, at, body; in the order of numbers.
SELECT number, side, state, position, group_name, key, reason_code, reason, attempts, at, body
FROM oncemq_dead_letters
WHERE number > ?1 AND (?2 = 0 OR side = ?2) AND (?3 = '' OR group_name = ?3)
  AND (?4 IS NULL OR number IN (SELECT value FROM json_each(?4)))
ORDER BY number LIMIT ?5
