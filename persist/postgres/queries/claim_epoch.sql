-- Purpose: the epoch of the claims of one call, and the number of their group, which
-- are kept for the statements that follow in the transaction. No group has the number 0.
-- Parameters: $1 group, as stored.
-- Result: one row: the epoch, whether the group is there.
SELECT set_config('oncemq_saved.epoch', nextval('oncemq.claim_epochs')::text, true)::bigint,
  set_config('oncemq_saved.group', coalesce((SELECT id FROM oncemq.groups WHERE key = $1::bytea), 0)::text, true) <> '0'
