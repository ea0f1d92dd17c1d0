-- Purpose: forget completed keys whose window has closed [CLAIM-8].
-- KEYS: totals, used buckets of the group, then the buckets to visit.
-- ARGV: how many keys to look at, how many to pass over in the first bucket.
-- Result: how many keys were looked at, how many forgotten, how many buckets are
-- done with, how many keys to pass over in the next.
-- Atomicity: run twice the second finds the next ones.
--#include clock
--#include beyond
--#include claims
local limit, skip = tonumber(ARGV[1]), tonumber(ARGV[2])
local looked, forgotten = 0, 0

local function finish(buckets, kept)
  if forgotten > 0 then redis.call('HINCRBY', KEYS[1], 'completed', -forgotten) end
  return {looked, forgotten, buckets, kept}
end

for b = 3, #KEYS do
  local fields = redis.call('HGETALL', KEYS[b])
  local kept = skip
  for i = 2 * skip + 1, #fields, 2 do
    if looked == limit then return finish(b - 3, kept) end
    looked = looked + 1
    local _, till = read_done(fields[i + 1])
    if till and till > now then
      kept = kept + 1
    else
      redis.call('HDEL', KEYS[b], fields[i])
      forgotten = forgotten + 1
    end
  end
  if redis.call('EXISTS', KEYS[b]) == 0 then
    redis.call('SETBIT', KEYS[2], tonumber(string.sub(KEYS[b], -5), 16), 0)
  end
  skip = 0
end
return finish(#KEYS - 2, 0)
