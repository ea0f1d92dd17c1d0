-- Purpose: tell the other processes that a lane may have new messages.
-- Parameters: $1 channel, $2 who tells it; empty for nobody in particular.
-- Result: one row of no use.
SELECT pg_notify($1::text, $2::text)
