-- Purpose: delete dead letters.
-- KEYS: totals, dead letters, fates.
-- ARGV: the numbers.
-- Result: how many were there.
-- Atomicity: nothing to check. Run twice the second finds nothing.
--#include beyond
--#include unletter
local n = 0
for i = 1, #ARGV do
  if remove_letter(KEYS[1], KEYS[2], KEYS[3], ARGV[i]) then n = n + 1 end
end
return n
