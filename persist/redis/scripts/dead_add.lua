-- Purpose: store dead letters [DEAD-1].
-- KEYS: totals, dead letters, fates.
-- ARGV: for each letter what add_letter takes from side on.
-- Result: 0.
-- Atomicity: nothing to check. Run twice it stores twice.
--#include clock
--#include letter
for i = 1, #ARGV, 14 do add_letter(KEYS[1], KEYS[2], KEYS[3], unpack(ARGV, i, i + 13)) end
return 0
