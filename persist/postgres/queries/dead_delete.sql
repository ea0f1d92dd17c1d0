-- Purpose: delete dead letters.
-- Parameters: $1 numbers.
-- Result: changes the deleted rows.
DELETE FROM oncemq.dead_letters WHERE number = ANY ($1::bigint[])
