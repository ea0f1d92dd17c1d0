-- Purpose: make messages pending again whose receipt did not come in time; that
-- counts as an attempt.
-- Parameters: ?1 positions as a JSON array.
-- Result: changes the rows that were delivered.
UPDATE oncemq_outbox SET state = 0, attempts = attempts + 1
WHERE position IN (SELECT value FROM json_each(?1)) AND state = 1
