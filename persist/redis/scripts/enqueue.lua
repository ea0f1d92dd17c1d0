-- Purpose: add the messages of several calls to the outbox, each call all or
-- none.
-- KEYS: totals, IDs, then five keys for each lane: lane, messages, states, dues,
-- droppable; at the end fates, what gave way, the latest.
-- ARGV: channel, sender, limits ("messages bytes", 0: none), number of lanes, their numbers; then for
-- each call the number of its messages, 1 if there is something to check, how they
-- are stored, and the messages: see add.lua.
-- Result: for each call what add returns, a list with the limit for one that is
-- refused.
-- Atomicity: a call is checked before it writes. Run twice it adds twice.
--#include clock
--#include state
--#include wake
--#include gaveway
--#include add
local limits, count = ARGV[3], tonumber(ARGV[4])
open_lanes(count, 3, 5)
local answers = {}
local at = 5 + count
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  local hows = ARGV[at + 2]
  local places, full = add(at + 3, n, hows, ARGV[at + 1] == '1', limits)
  answers[#answers + 1] = places or full
  at = at + 3 + (hows == '' and 2 or 1) * n
end
close_lanes()
if due_now then wake(ARGV[1], ARGV[2]) end
return answers
