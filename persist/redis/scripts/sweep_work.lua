-- Purpose: forget keys that nobody completed [CLAIM-8]: released ones once their
-- lease would have ended, abandoned ones some time after it did.
-- KEYS: totals, work of the group.
-- ARGV: how many keys to look at, cursor, how many to pass over there, how long
-- abandoned ones are kept.
-- Result: how many keys were looked at, how many forgotten, the cursor, how many
-- to pass over there, 0 if that was the end.
-- Atomicity: run twice the second finds the next ones.
--#include clock
--#include beyond
--#include claims
local limit, skip = tonumber(ARGV[1]), tonumber(ARGV[3])
local page = redis.call('HSCAN', KEYS[2], ARGV[2], 'COUNT', limit)
local cursor, fields = page[1], page[2]
local looked, forgotten, abandoned = 0, 0, 0
local kept = skip
for i = 2 * skip + 1, #fields, 2 do
  if looked == limit then break end
  looked = looked + 1
  local w = read_work(fields[i + 1])
  local till = w and (w.state == RELEASED and w.till or w.till + ARGV[4]) or 0
  if till > now then
    kept = kept + 1
  else
    redis.call('HDEL', KEYS[2], fields[i])
    forgotten = forgotten + 1
    if not w or w.state == IN_WORK then abandoned = abandoned + 1 end
  end
end
if abandoned > 0 then redis.call('HINCRBY', KEYS[1], 'work', -abandoned) end
-- A page that was not read to its end is read again. Of a small hash it is the
-- whole, of a large one a part that Redis made a little larger than asked for.
if looked == limit and 2 * (kept + forgotten) < #fields then
  return {looked, forgotten, ARGV[2], kept, 1}
end
return {looked, forgotten, cursor, 0, cursor == '0' and 0 or 1}
