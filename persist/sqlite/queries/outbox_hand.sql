-- Purpose: keep what is handed out from being superseded [OUTBOX-14].
-- Parameters: ?1 positions as a JSON array.
-- Result: changes the rows that are there.
UPDATE oncemq_outbox SET skey = NULL
WHERE position IN (SELECT value FROM json_each(?1))
