-- Purpose: the live relays.
-- Parameters: none.
-- Result: their names.
SELECT owner FROM oncemq.relays WHERE until > (SELECT oncemq.now_ms())
