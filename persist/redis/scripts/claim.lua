-- Purpose: claim keys.
-- KEYS: totals, groups, work of the group, then the hashes that the keys are in
-- once they are completed.
-- ARGV: number of the group, its name, owner, ttl, for each hash how many of the keys
-- are its, then the field of each key, in the order of the hashes.
-- Result: the epoch of what was granted, then for each key that was not simply
-- granted for the first time its index and: 0 and attempts (granted), 1 and 1 if
-- with a dead letter (completed), or 2, epoch, attempts, what is left of the lease, owner (busy).
-- Atomicity: all is read before anything is written. Run twice the second finds
-- the keys busy.
--#include clock
--#include claims
local first = 5 + #KEYS - 3
local work = read_fields({}, KEYS[3], first, #ARGV, 1)
local out, granted, stale = {0}, {}, {}
local till, news = now + ARGV[4], 0
local last = first - 1
for b = 4, #KEYS do
  local from = last + 1
  last = last + ARGV[b + 1]
  local done = read_fields({}, KEYS[b], from, last, 1)
  for i = from, last do
    local field = ARGV[i]
    local w = read_work(work[field])
    if w and w.state == IN_WORK and w.till > now then
      out[#out + 1] = {i - first + 1, 2, w.epoch, w.attempts, w.till - now, w.owner}
    elseif w then
      if w.state == RELEASED then news = news + 1 end
      granted[#granted + 1] = {field, w.attempts + 1}
      out[#out + 1] = {i - first + 1, 0, w.attempts + 1}
    else
      local _, over, dead = read_done(done[field])
      if over and over > now then
        out[#out + 1] = {i - first + 1, 1, dead and 1 or 0}
      else
        if done[field] then stale[#stale + 1] = {KEYS[b], field} end
        news = news + 1
        granted[#granted + 1] = {field, 1}
      end
    end
  end
end
if #granted == 0 then return out end

-- As with lanes, an epoch is the time if that is higher than the next number.
local epoch = math.max((tonumber(redis.call('HGET', KEYS[1], 'claim')) or 0) + 1, now)
redis.call('HSET', KEYS[1], 'claim', epoch)
redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
local put, texts = {}, {} -- texts by their attempts
for i = 1, #granted do
  local attempts = granted[i][2]
  if not texts[attempts] then
    texts[attempts] = write_work({state = IN_WORK, epoch = epoch, till = till, attempts = attempts, owner = ARGV[3]})
  end
  put[2 * i - 1] = granted[i][1]
  put[2 * i] = texts[attempts]
end
call_many('HSET', KEYS[3], put)
for _, s in ipairs(stale) do redis.call('HDEL', s[1], s[2]) end
if news > 0 then redis.call('HINCRBY', KEYS[1], 'work', news) end
if #stale > 0 then redis.call('HINCRBY', KEYS[1], 'completed', -#stale) end
out[1] = epoch
return out
