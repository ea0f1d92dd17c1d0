-- Purpose: mark keys as processed, with their dead letters [CLAIM-6].
-- KEYS: totals, work of the group, used buckets of the group, dead letters, fates,
-- then the buckets of the keys, whose names end with their numbers in five
-- hexadecimal digits.
-- ARGV: window, number of letters, for each the index of its completion and what
-- add_letter takes from side on; for each bucket how many of the completions are its,
-- then field and epoch of each completion, in the order of the buckets.
-- Result: for each completion 1 if it was done.
-- Atomicity: what is not the caller's is left as it is. Run twice the second
-- extends the windows, and stores no letter.
--#include clock
--#include beyond
--#include letter
--#include claims
local till = now + ARGV[1]
local letters = {}
local counts = 3 + 15 * ARGV[2]
for at = 3, counts - 1, 15 do letters[tonumber(ARGV[at])] = true end
local first = counts + #KEYS - 5
local work = read_fields({}, KEYS[2], first, #ARGV, 2)
local out, over, mine, fresh, bits, texts = {}, {}, {}, {}, {}, {}
local added = 0

-- What a completed key has; a batch has few epochs.
local function done_text(epoch, dead)
  if dead then return write_done(epoch, till, dead) end
  texts[epoch] = texts[epoch] or write_done(epoch, till)
  return texts[epoch]
end

local i, at = 0, first
for b = 6, #KEYS do
  local put = {}
  local marked = false
  for _ = 1, tonumber(ARGV[counts + b - 6]) do
    i = i + 1
    local field, epoch = ARGV[at], tonumber(ARGV[at + 1])
    at = at + 2
    out[i] = 0
    local state, held = work_epoch(work[field])
    if mine[field] then -- twice in one call
      out[i] = mine[field] == epoch and 1 or 0
    elseif state then
      if state == IN_WORK and held == epoch then
        put[#put + 1] = field
        put[#put + 1] = done_text(epoch, letters[i])
        mine[field] = epoch
        over[#over + 1] = field
        marked = true
        fresh[i], out[i] = true, 1
      end
    else
      local done, _, dead = read_done(redis.call('HGET', KEYS[b], field))
      if done == epoch then
        put[#put + 1] = field
        put[#put + 1] = done_text(epoch, dead)
        out[i] = 1
      end
    end
  end
  added = added + call_many('HSET', KEYS[b], put)
  if marked then
    for _, part in ipairs({'SET', 'u1', tonumber(string.sub(KEYS[b], -5), 16), 1}) do bits[#bits + 1] = part end
  end
end
for at = 3, counts - 1, 15 do -- in the caller's order
  if fresh[tonumber(ARGV[at])] then add_letter(KEYS[1], KEYS[4], KEYS[5], unpack(ARGV, at + 1, at + 14)) end
end
call_many('HDEL', KEYS[2], over)
call_many('BITFIELD', KEYS[3], bits)
if #over > 0 then redis.call('HINCRBY', KEYS[1], 'work', -#over) end
if added > 0 then redis.call('HINCRBY', KEYS[1], 'completed', added) end
return out
