-- Purpose: find what a message of a key would supersede.
-- Parameters: ?1 hash of the key.
-- Result: one row with the bytes, or none.
SELECT length(body) FROM oncemq_outbox INDEXED BY oncemq_outbox_skey WHERE skey = ?1
