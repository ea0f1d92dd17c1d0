-- Purpose: describe lanes.
-- KEYS: the lanes.
-- ARGV: none.
-- Result: now; for each lane: owner, epoch, holder, end of the lease, pending.
-- Atomicity: reads only.
--#include clock
local out = {now}
for i = 1, #KEYS do
  local f = redis.call('HMGET', KEYS[i], 'owner', 'epoch', 'holder', 'until', 'pending')
  out[#out + 1] = {f[1] or '', f[2] or '0', f[3] or '0', f[4] or '0', f[5] or '0'}
end
return out
