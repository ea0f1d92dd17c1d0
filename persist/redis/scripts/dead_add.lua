-- Purpose: store dead letters [DEAD-1].
-- KEYS: totals, dead letters, fates.
-- ARGV: for each letter side, state, place, group, key, reason code, reason,
-- attempts, message.
-- Result: 0.
-- Atomicity: nothing to check. Run twice it stores twice.
--#include clock
--#include letter
for i = 1, #ARGV, 9 do add_letter(KEYS[1], KEYS[2], KEYS[3], unpack(ARGV, i, i + 8)) end
return 0
