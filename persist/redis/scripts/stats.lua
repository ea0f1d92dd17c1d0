-- Purpose: count what the store holds.
-- KEYS: totals, groups, then lane, messages and states of each lane.
-- ARGV: none.
-- Result: now; the totals; the names of the groups; for each lane owner, epoch, holder, end of the lease,
-- pending, delivered, dropped, when the oldest pending message was enqueued,
-- superseded, bytes.
-- Atomicity: keeps in each lane how far it had to look for the oldest, and
-- changes nothing else.
--#include clock
--#include state
--#include pages
local totals = redis.call('HMGET', KEYS[1], 'failed', 'expired', 'consumer', 'completed', 'work')
for i = 1, #totals do totals[i] = totals[i] or '0' end
local groups = {}
for i, v in ipairs(redis.call('HGETALL', KEYS[2])) do
  if i % 2 == 0 then
    groups[i / 2] = v
  end
end
local out = {now, totals, groups}

-- No message at or before the lane's field oldest is pending. Those that await
-- their receipts are passed over, not all of them in one run.
local function oldest(hash, messages, states)
  local cursor = tonumber(redis.call('HGET', hash, 'oldest')) or 0
  local began, found = cursor, 0
  width = 4
  for _ = 1, 64 do
    local rows = read_page(messages, cursor, 64)
    for i = 1, #rows do
      local position = position_of(rows[i])
      if not has(read_state(redis.call('HGET', states, position)), DELIVERED) then
        found = at_of(rows[i])
        break
      end
      cursor = position
    end
    if found > 0 or #rows == 0 then break end
  end
  if cursor > began + 256 then redis.pcall('HSET', hash, 'oldest', cursor) end
  return found
end

for i = 3, #KEYS, 3 do
  local f = redis.call('HMGET', KEYS[i], 'owner', 'epoch', 'holder', 'until', 'pending', 'delivered', 'dropped')
  f[1] = f[1] or ''
  for j = 2, 7 do f[j] = f[j] or '0' end
  f[8] = tonumber(f[5]) > 0 and oldest(KEYS[i], KEYS[i + 1], KEYS[i + 2]) or 0
  local more = redis.call('HMGET', KEYS[i], 'superseded', 'bytes')
  f[9], f[10] = more[1] or '0', more[2] or '0'
  out[#out + 1] = f
end
return out
