-- Purpose: forget messages that gave way long ago, if there are many. What others
-- work on is left.
-- Parameters: $1 how many to remember.
-- Result: changes the deleted rows.
DELETE FROM oncemq.gave_way WHERE number = ANY (ARRAY(
  SELECT number FROM oncemq.gave_way
  WHERE (SELECT max(number) - min(number) FROM oncemq.gave_way) >= 2 * $1::bigint
    AND number <= (SELECT number FROM oncemq.gave_way ORDER BY number DESC OFFSET $1::bigint LIMIT 1)
  ORDER BY number LIMIT 100000 FOR UPDATE SKIP LOCKED))
