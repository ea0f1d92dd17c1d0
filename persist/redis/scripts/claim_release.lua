-- Purpose: give keys back [CLAIM-7]. They stay, and remember their attempts.
-- KEYS: work of the group, totals.
-- ARGV: field, epoch and attempts of each claim.
-- Result: 0.
-- Atomicity: claims that are not the caller's are ignored, so that a second run
-- does nothing.
--#include beyond
--#include claims
local work = read_fields({}, KEYS[1], 1, #ARGV, 3)
local n = 0
for i = 1, #ARGV, 3 do
  local w = read_work(work[ARGV[i]])
  if w and w.state == IN_WORK and w.epoch == tonumber(ARGV[i + 1]) then
    w.state, w.attempts = RELEASED, tonumber(ARGV[i + 2])
    work[ARGV[i]] = write_work(w)
    redis.call('HSET', KEYS[1], ARGV[i], work[ARGV[i]])
    n = n + 1
  end
end
if n > 0 then redis.call('HINCRBY', KEYS[2], 'work', -n) end
return 0
