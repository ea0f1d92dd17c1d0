-- Purpose: list dead letters.
-- Parameters: $1 number after which to begin, $2 side (0: any), $3 group (NULL:
-- any), $4 numbers (NULL: any), $5 reason codes (NULL: any), $6 age (0: any), $7
-- limit, $8 last number. The planner, who plans for all arguments at once, makes no use
-- of $4.
-- Result: number, side, state, position, group_name, key, reason_code, reason,
-- attempts, at, first_error, first_at, last_error, last_at, expiry, body; in the
-- order of numbers.
SELECT number, side, state, position, group_name, key, reason_code, reason, attempts, at,
  first_error, first_at, last_error, last_at, expiry, body
FROM oncemq.dead_letters
WHERE number > $1::bigint AND number <= $8::bigint AND ($2::int = 0 OR side = $2::int) AND ($3::bytea IS NULL OR group_name = $3::bytea)
  AND ($4::bigint[] IS NULL OR number = ANY ($4::bigint[])) AND ($5::smallint[] IS NULL OR reason_code = ANY ($5::smallint[]))
  AND ($6::bigint = 0 OR at <= (SELECT oncemq.now_ms()) - $6::bigint)
ORDER BY number LIMIT $7::bigint
