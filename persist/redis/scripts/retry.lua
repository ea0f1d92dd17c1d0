-- Purpose: move dead letters back into the outbox, in one step [DEAD-3].
-- KEYS: totals, IDs, dead letters, fates, then five keys for each lane as in
-- enqueue.
-- ARGV: channel, sender, limit, number of lanes, their numbers, number of
-- letters, their numbers, then two arguments for each message as in enqueue.
-- Result: 0; 1 if the limit does not leave room; 2 if one of the letters is gone.
-- Atomicity: all is checked before anything is written. Run twice it finds the
-- letters gone.
--#include clock
--#include state
--#include unletter
--#include wake
--#include add
local limit, count = tonumber(ARGV[3]), tonumber(ARGV[4])
local n = tonumber(ARGV[5 + count])
local first = 6 + count
for i = first, first + n - 1 do
  if #redis.call('XRANGE', KEYS[3], ARGV[i], ARGV[i]) == 0 then return 2 end
end
open_lanes(count, 5, 5)
if not add(first + n, n, true, limit) then return 1 end
close_lanes()
for i = first, first + n - 1 do remove_letter(KEYS[1], KEYS[3], KEYS[4], ARGV[i]) end
if due_now then wake(ARGV[1], ARGV[2]) end
return 0
