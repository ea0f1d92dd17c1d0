-- Purpose: tell the store's time.
-- KEYS: any, for the slot.
-- ARGV: none.
-- Result: milliseconds since 1970.
-- Atomicity: reads only.
--#include clock
return now
