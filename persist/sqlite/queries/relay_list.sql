-- Purpose: the live relays.
-- Parameters: ?1 now.
-- Result: owner; in ascending order.
SELECT owner FROM oncemq_relays WHERE until > ?1 ORDER BY owner
