-- Purpose: the epoch of new claims. It only grows, also over keys that were
-- forgotten.
-- Parameters: none.
-- Result: one row with the epoch.
UPDATE oncemq_totals SET claim_epoch = claim_epoch + 1 RETURNING claim_epoch
