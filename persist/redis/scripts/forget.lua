-- Purpose: forget completed keys.
-- KEYS: totals, then the buckets of the keys.
-- ARGV: for each bucket how many of the keys are its, then the field of each key, in
-- the order of the buckets.
-- Result: how many were within their window.
-- Atomicity: run twice the second finds nothing.
--#include clock
--#include beyond
--#include claims
local n, deleted = 0, 0
local last = #KEYS - 1
for b = 2, #KEYS do
  local from = last + 1
  last = last + ARGV[b - 1]
  for i = from, last do
    local _, till = read_done(redis.call('HGET', KEYS[b], ARGV[i]))
    if till and till > now then n = n + 1 end
    deleted = deleted + redis.call('HDEL', KEYS[b], ARGV[i])
  end
end
if deleted > 0 then redis.call('HINCRBY', KEYS[1], 'completed', -deleted) end
return n
