-- Purpose: extend the leases of claims.
-- KEYS: work of the group.
-- ARGV: ttl, then field, epoch and attempts of each claim.
-- Result: for each claim 1 if it is the caller's still.
-- Atomicity: run twice it extends twice.
--#include clock
--#include beyond
--#include claims
local work = read_fields({}, KEYS[1], 2, #ARGV, 3)
local out, put = {}, {}
for i = 2, #ARGV, 3 do
  local w = read_work(work[ARGV[i]])
  local mine = w and w.state == IN_WORK and w.epoch == tonumber(ARGV[i + 1])
  if mine then
    w.till, w.attempts = now + ARGV[1], tonumber(ARGV[i + 2])
    put[#put + 1] = ARGV[i]
    put[#put + 1] = write_work(w)
  end
  out[#out + 1] = mine and 1 or 0
end
call_many('HSET', KEYS[1], put)
return out
