-- Purpose: number a group, unless that was done.
-- Parameters: ?1 name.
-- Result: none.
INSERT INTO oncemq_groups (name) VALUES (?1) ON CONFLICT (name) DO NOTHING
