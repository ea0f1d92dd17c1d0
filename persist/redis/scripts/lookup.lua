-- Purpose: tell what became of messages.
-- KEYS: fates, dead letters, then messages and states of each lane, from lane 0
-- on.
-- ARGV: for each message its lane and position.
-- Result: for each message: state (-1: gone), reason code, reason.
-- Atomicity: reads only.
--#include state
local out = {}
for i = 1, #ARGV, 2 do
  local fate = {-1, 0, ''}
  local number = redis.call('HGET', KEYS[1], ARGV[i] .. ':' .. ARGV[i + 1])
  local messages = KEYS[3 + 2 * ARGV[i]]
  if number == 'd' or number == 's' then
    fate = {number == 'd' and 5 or 6, 0, ''}
  elseif number then
    local rows = redis.call('XRANGE', KEYS[2], number, number)
    if #rows > 0 then
      local l = {}
      local f = rows[1][2]
      for j = 1, #f, 2 do l[f[j]] = f[j + 1] end
      fate = {tonumber(l.state), tonumber(l.code), l.reason}
    end
  elseif #redis.call('XRANGE', messages, ARGV[i + 1], ARGV[i + 1]) > 0 then
    local m = read_state(redis.call('HGET', KEYS[4 + 2 * ARGV[i]], ARGV[i + 1]))
    fate = {has(m, DELIVERED) and 1 or 0, m.code, m.reason}
  end
  out[#out + 1] = fate
end
return out
