-- Purpose: keep the counters of processed keys right at the end of a transaction.
-- Parameters: ?1 and ?2 what is added to completed and in_work.
-- Result: changes one row.
UPDATE oncemq_totals SET completed = completed + ?1, in_work = in_work + ?2
