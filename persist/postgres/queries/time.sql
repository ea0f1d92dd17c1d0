-- Purpose: the store's clock.
-- Parameters: none.
-- Result: one row: milliseconds since 1970.
SELECT oncemq.now_ms()
