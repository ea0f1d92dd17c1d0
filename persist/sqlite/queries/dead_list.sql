-- Purpose: list dead letters.
-- Parameters: ?1 number after which to begin, ?2 side (0: any), ?3 group (empty:
-- any), ?4 numbers as a JSON array (NULL: any), ?5 reason codes as a JSON array
-- (NULL: any), ?6 the latest time (NULL: any), ?7 limit, ?8 last
-- number. SQLite makes no use of ?4 in its search.
-- Result: number, side, state, position, group_name, key, reason_code, reason,
-- attempts, at, first_error, first_at, last_error, last_at, expiry, body; in the
-- order of numbers.
SELECT number, side, state, position, group_name, key, reason_code, reason, attempts, at,
  first_error, first_at, last_error, last_at, expiry, body
FROM oncemq_dead_letters
WHERE number > ?1 AND number <= ?8 AND (?2 = 0 OR side = ?2) AND (?3 = '' OR group_name = ?3)
  AND (?4 IS NULL OR number IN (SELECT value FROM json_each(?4)))
  AND (?5 IS NULL OR reason_code IN (SELECT value FROM json_each(?5)))
  AND (?6 IS NULL OR at <= ?6)
ORDER BY number LIMIT ?7
