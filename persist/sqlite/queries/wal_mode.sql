-- Purpose: turn on the write-ahead log, which the file then keeps.
-- Parameters: none.
-- Result: one row with the mode in force: "wal", or another if it cannot be.
PRAGMA journal_mode = WAL
