-- Purpose: delete what a newer message of its key supersedes [OUTBOX-14].
-- Parameters: ?1 hash of the key, ?2 position of the newer message.
-- Result: position and bytes of each that was deleted.
DELETE FROM oncemq_outbox INDEXED BY oncemq_outbox_skey
WHERE skey = ?1 AND position < ?2
RETURNING position, length(body)
