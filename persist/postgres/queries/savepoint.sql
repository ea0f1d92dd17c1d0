-- Purpose: begin a part of a caller's transaction that can be undone by itself.
-- Parameters: none.
-- Result: none.
SAVEPOINT oncemq_part
