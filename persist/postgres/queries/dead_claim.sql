-- Purpose: lock the dead letters that are about to be deleted.
-- Parameters: $1 numbers.
-- Result: number, group_name and key of those that are there.
SELECT number, group_name, key FROM oncemq.dead_letters WHERE number = ANY ($1::bigint[]) ORDER BY number FOR UPDATE
