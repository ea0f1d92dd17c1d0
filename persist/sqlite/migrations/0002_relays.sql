-- Purpose: let relays share the lanes out, and let a new holder of a lane know
-- which messages cannot have been sent yet.

-- sent_until is the time until which a holder may have sent; 0 if none ever did.
ALTER TABLE oncemq_lanes ADD COLUMN sent_until INTEGER NOT NULL DEFAULT 0;
-- Of a lane that was held before this was recorded, everything may have been sent.
UPDATE oncemq_lanes SET sent_until = max(lease_until, (SELECT coalesce(max(enqueued_at), 0) FROM oncemq_outbox))
WHERE epoch > 0;

CREATE TABLE oncemq_relays (
  owner TEXT PRIMARY KEY,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
