-- Purpose: take away a relay that leaves, and those that were not heard of.
-- Parameters: $1 key of the name of the one that leaves, or NULL.
-- Result: changes the deleted rows.
DELETE FROM oncemq.relays WHERE key IN (
  SELECT key FROM oncemq.relays WHERE until <= (SELECT oncemq.now_ms()) FOR UPDATE SKIP LOCKED
) OR key = $1::bytea
