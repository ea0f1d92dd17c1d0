-- Purpose: start a transaction of the writer. IMMEDIATE takes the write lock
-- before anything is read, so that the transaction cannot fail later because
-- another process wrote in between.
-- Parameters: none.
-- Result: none.
BEGIN IMMEDIATE
