-- Purpose: add the messages of several calls to the outbox, each call all or
-- none.
-- KEYS: totals, IDs, then five keys for each lane: lane, messages, states, dues,
-- droppable.
-- ARGV: channel, sender, limit (0: none), number of lanes, their numbers; then for
-- each call the number of its messages, 1 if there is something to check, and two
-- arguments for each message: see add.lua.
-- Result: for each call what add returns, an empty string for one that is
-- refused.
-- Atomicity: a call is checked before it writes. Run twice it adds twice.
--#include clock
--#include state
--#include wake
--#include add
local limit, count = tonumber(ARGV[3]), tonumber(ARGV[4])
open_lanes(count, 3, 5)
local answers = {}
local at = 5 + count
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  answers[#answers + 1] = add(at + 2, n, ARGV[at + 1] == '1', limit) or ''
  at = at + 2 + 2 * n
end
close_lanes()
if due_now then wake(ARGV[1], ARGV[2]) end
return answers
