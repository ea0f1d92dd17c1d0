-- Purpose: find the messages that hold IDs [OUTBOX-4].
-- Parameters: $1 message IDs.
-- Result: ID, position of the first.
SELECT i.id, min(o.position) FROM unnest($1::bytea[]) AS i (id), LATERAL (
  SELECT position FROM oncemq.outbox WHERE id = i.id AND once
  UNION ALL SELECT position FROM oncemq.outbox WHERE id = i.id AND id IS NOT NULL AND NOT once
) o GROUP BY i.id
