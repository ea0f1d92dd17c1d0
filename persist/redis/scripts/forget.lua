-- Purpose: forget completed keys.
-- KEYS: totals, then the bucket of each key.
-- ARGV: the field of each key.
-- Result: how many were within their window.
-- Atomicity: run twice the second finds nothing.
--#include clock
--#include beyond
--#include claims
local n, deleted = 0, 0
for i = 1, #ARGV do
  local _, till = read_done(redis.call('HGET', KEYS[i + 1], ARGV[i]))
  if till and till > now then n = n + 1 end
  deleted = deleted + redis.call('HDEL', KEYS[i + 1], ARGV[i])
end
if deleted > 0 then redis.call('HINCRBY', KEYS[1], 'completed', -deleted) end
return n
