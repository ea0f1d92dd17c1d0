-- Purpose: find a session.
-- Parameters: ?1 client ID.
-- Result: one row: id, epoch; or none.
SELECT id, epoch FROM oncemq_sessions WHERE client_id = ?1
