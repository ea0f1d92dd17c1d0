-- Purpose: delete dead letters.
-- Parameters: as of dead_list.
-- Result: changes the deleted rows.
DELETE FROM oncemq.dead_letters WHERE number = ANY (ARRAY(
  SELECT number FROM oncemq.dead_letters
  WHERE number > $1::bigint AND number <= $8::bigint AND ($2::int = 0 OR side = $2::int) AND ($3::bytea IS NULL OR group_name = $3::bytea)
    AND ($4::bigint[] IS NULL OR number = ANY ($4::bigint[])) AND ($5::smallint[] IS NULL OR reason_code = ANY ($5::smallint[]))
    AND ($6::bigint = 0 OR at <= (SELECT oncemq.now_ms()) - $6::bigint)
  ORDER BY number LIMIT $7::bigint FOR UPDATE))
