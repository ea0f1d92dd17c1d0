-- Purpose: forget the packet state of a session.
-- Parameters: ?1 session.
-- Result: changes the deleted rows.
DELETE FROM oncemq_packets WHERE session = ?1
