-- Purpose: move dead letters back into the outbox, in one step [DEAD-3], and have
-- their groups forget that they completed the keys with them [DEAD-4].
-- KEYS: totals, IDs, dead letters, fates, then five keys for each lane as in
-- enqueue and what follows there, then the bucket of each key that is to be
-- forgotten.
-- ARGV: channel, sender, limits, number of lanes, their numbers, number of
-- letters, their numbers, two arguments for each message: see add.lua, then the
-- field of each key that is to be forgotten.
-- Result: the places as of a checked call of enqueue; a list with the limit if that
-- does not leave room; 2 if one of the letters is gone.
-- Atomicity: all is checked before anything is written. Run twice it finds the
-- letters gone.
--#include clock
--#include state
--#include claims
--#include unletter
--#include wake
--#include gaveway
--#include add
local limits, count = ARGV[3], tonumber(ARGV[4])
local n = tonumber(ARGV[5 + count])
local first = 6 + count
for i = first, first + n - 1 do
  if #redis.call('XRANGE', KEYS[3], ARGV[i], ARGV[i]) == 0 then return 2 end
end
open_lanes(count, 5, 5)
local places, full = add(first + n, n, '', true, limits)
if not places then return full end
close_lanes()
for i = first, first + n - 1 do remove_letter(KEYS[1], KEYS[3], KEYS[4], ARGV[i]) end
local bucket, forgotten = 8 + 5 * count, 0
for i = first + 3 * n, #ARGV do
  local _, _, dead = read_done(redis.call('HGET', KEYS[bucket], ARGV[i]))
  if dead then forgotten = forgotten + redis.call('HDEL', KEYS[bucket], ARGV[i]) end
  bucket = bucket + 1
end
if forgotten > 0 then redis.call('HINCRBY', KEYS[1], 'completed', -forgotten) end
if due_now then wake(ARGV[1], ARGV[2]) end
return places
