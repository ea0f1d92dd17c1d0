-- Purpose: find what messages of keys would supersede, and keep it from being handed
-- out until they have.
-- Parameters: $1 hashes of the keys.
-- Result: hash, bytes of the message.
SELECT o.skey, octet_length(o.body) FROM unnest($1::bytea[]) AS k (skey), LATERAL (
  SELECT skey, body FROM oncemq.outbox WHERE skey = k.skey ORDER BY position FOR UPDATE
) o
