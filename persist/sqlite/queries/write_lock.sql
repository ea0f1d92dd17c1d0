-- Purpose: make a deferred transaction the writer before it reads. It changes
-- nothing; SQLite takes the write lock for any statement that could.
-- Parameters: none.
-- Result: none.
UPDATE oncemq_totals SET one = one WHERE one = 0
