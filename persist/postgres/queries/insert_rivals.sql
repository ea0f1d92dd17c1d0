-- Purpose: find the messages to which those of insert_once lost their IDs. That
-- statement does not see them; this one, which comes later, does. If one was
-- settled since, its ID is free again, and the whole is to be repeated: a setting
-- that does not exist makes it an error.
-- Parameters: none.
-- Result: ID, position of the message that holds it.
SELECT i.id, coalesce((SELECT min(o.position) FROM (
    SELECT position FROM oncemq.outbox WHERE id = i.id AND once
    UNION ALL SELECT position FROM oncemq.outbox WHERE id = i.id AND id IS NOT NULL AND NOT once
  ) o), current_setting('oncemq_saved.id_is_free_again')::bigint)
FROM unnest(current_setting('oncemq_saved.rivals')::bytea[]) AS i (id)
