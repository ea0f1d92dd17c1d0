-- Purpose: get dead letters by their numbers.
-- KEYS: dead letters.
-- ARGV: the numbers.
-- Result: number and fields of each letter that is there.
-- Atomicity: reads only.
local out = {}
for i = 1, #ARGV do
  local rows = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
  if #rows > 0 then out[#out + 1] = {ARGV[i], rows[1][2]} end
end
return out
