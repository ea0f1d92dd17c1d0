-- Purpose: mark keys as processed, with their dead letters [CLAIM-6].
-- KEYS: totals, work of the group, used buckets of the group, dead letters, fates,
-- then for each completion the bucket of its key, whose name ends with its number
-- in five hexadecimal digits.
-- ARGV: window, number of letters, for each the index of its completion and what
-- add_letter takes from side on; then field and epoch of each completion.
-- Result: for each completion 1 if it was done.
-- Atomicity: what is not the caller's is left as it is. Run twice the second
-- extends the windows, and stores no letter.
--#include clock
--#include beyond
--#include letter
--#include claims
local till = now + ARGV[1]
local letters = {}
local first = 3 + 15 * ARGV[2]
for at = 3, first - 1, 15 do letters[tonumber(ARGV[at])] = at + 1 end
local work = read_fields(KEYS[2], first, 2)
local out, over, bits = {}, {}, {}
local added = 0
for i = 1, (#ARGV - first + 1) / 2 do
  local field, epoch = ARGV[first + 2 * i - 2], tonumber(ARGV[first + 2 * i - 1])
  local bucket = KEYS[i + 5]
  local w = read_work(work[field])
  out[i] = 0
  if w then
    if w.state == IN_WORK and w.epoch == epoch then
      added = added + redis.call('HSET', bucket, field, write_done(epoch, till, letters[i]))
      work[field] = false
      over[#over + 1] = field
      for _, part in ipairs({'SET', 'u1', tonumber(string.sub(bucket, -5), 16), 1}) do bits[#bits + 1] = part end
      if letters[i] then add_letter(KEYS[1], KEYS[4], KEYS[5], unpack(ARGV, letters[i], letters[i] + 13)) end
      out[i] = 1
    end
  else
    local done, _, dead = read_done(redis.call('HGET', bucket, field))
    if done == epoch then
      redis.call('HSET', bucket, field, write_done(epoch, till, dead))
      out[i] = 1
    end
  end
end
call_many('HDEL', KEYS[2], over)
call_many('BITFIELD', KEYS[3], bits)
if #over > 0 then redis.call('HINCRBY', KEYS[1], 'work', -#over) end
if added > 0 then redis.call('HINCRBY', KEYS[1], 'completed', added) end
return out
