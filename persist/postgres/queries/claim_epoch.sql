-- Purpose: the epoch of the claims of one call, which is kept for the statements
-- that follow in the transaction.
-- Parameters: none.
-- Result: one row with the epoch.
SELECT set_config('oncemq_saved.epoch', nextval('oncemq.claim_epochs')::text, true)::bigint
