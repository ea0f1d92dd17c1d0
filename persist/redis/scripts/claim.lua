-- Purpose: claim keys.
-- KEYS: totals, groups, work of the group, then for each key the hash that it is
-- in once it is completed.
-- ARGV: number of the group, its name, owner, ttl, then the field of each key.
-- Result: the epoch of what was granted, then for each key that was not simply
-- granted for the first time its index and: 0 and attempts (granted), 1 and 1 if
-- with a dead letter (completed), or 2, epoch, attempts, what is left of the lease, owner (busy).
-- Atomicity: all is read before anything is written. Run twice the second finds
-- the keys busy.
--#include clock
--#include claims
local work = read_fields(KEYS[3], 5, 1)
local out, granted, stale = {0}, {}, {}
local till, news = now + ARGV[4], 0
for i = 1, #ARGV - 4 do
  local field = ARGV[i + 4]
  local w = read_work(work[field])
  if w and w.state == IN_WORK and w.till > now then
    out[#out + 1] = {i, 2, w.epoch, w.attempts, w.till - now, w.owner}
  elseif w then
    if w.state == RELEASED then news = news + 1 end
    granted[#granted + 1] = {field, w.attempts + 1}
    out[#out + 1] = {i, 0, w.attempts + 1}
  else
    local value = redis.call('HGET', KEYS[i + 3], field)
    local _, over, dead = read_done(value)
    if over and over > now then
      out[#out + 1] = {i, 1, dead and 1 or 0}
    else
      if value then stale[#stale + 1] = i end
      news = news + 1
      granted[#granted + 1] = {field, 1}
    end
  end
end
if #granted == 0 then return out end

-- As with lanes, an epoch is the time if that is higher than the next number.
local epoch = math.max((tonumber(redis.call('HGET', KEYS[1], 'claim')) or 0) + 1, now)
redis.call('HSET', KEYS[1], 'claim', epoch)
redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
local put = {}
for i = 1, #granted do
  put[2 * i - 1] = granted[i][1]
  put[2 * i] = write_work({state = IN_WORK, epoch = epoch, till = till, attempts = granted[i][2], owner = ARGV[3]})
end
call_many('HSET', KEYS[3], put)
for _, i in ipairs(stale) do redis.call('HDEL', KEYS[i + 3], ARGV[i + 4]) end
if news > 0 then redis.call('HINCRBY', KEYS[1], 'work', news) end
if #stale > 0 then redis.call('HINCRBY', KEYS[1], 'completed', -#stale) end
out[1] = epoch
return out
