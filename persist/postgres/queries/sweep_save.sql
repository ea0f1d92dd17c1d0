-- Purpose: remember how far the sweep has come.
-- Parameters: $1 part, $2 group, $3 key.
-- Result: changes one row.
UPDATE oncemq.sweep SET part = $1::smallint, group_id = $2::int, key = $3::bytea
