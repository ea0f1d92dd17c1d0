-- Purpose: read the next messages of a leased lane: those that were returned,
-- those that became due behind the cursor, then those after it.
-- KEYS: lane, messages, states, dues, the latest.
-- ARGV: epoch, pages read, cursor, due and position up to which late ones were
-- handed out, limit, bytes, then the positions of returned ones.
-- Result: 0, now, pages read, the stage in which reading stopped (4: at the end),
-- how far it came behind the cursor, number of entries of each stage, the entries:
-- see entry.lua; or 1 if the lease was lost.
-- Atomicity: counts in the lane that something was read, and keeps what was from
-- being superseded [OUTBOX-14]; run twice it reads the same.
--#include held
--#include clock
--#include beyond
--#include state
--#include entry
--#include pages
local lane = lane_keys(1, '')
local f = redis.call('HMGET', KEYS[1], 'seq', 'next')
local seq, last = tonumber(f[1]) or 0, tonumber(f[2]) or 0
local cursor, late, late_position = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local limit, bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
now = math.max(now, late)
local counts, n, size = {0, 0, 0}, 0, 0

-- Takes an entry, and tells whether there is room for more. The message that
-- goes beyond the bytes is among the entries: payloads are smaller than messages,
-- and the caller has the last word.
local function take(stage, entry, state)
  if state and math.floor(string.byte(state, 1) / SUPERSEDE) % 2 == 1 then
    settle_latest(KEYS[5], position_of(entry), read_state(state))
  end
  counts[stage] = counts[stage] + 1
  n, size = n + 1, size + pack_entry(entry, state)
  return n < limit and size <= bytes
end

local function answer(stage, moved)
  if n > 0 or moved then seq = redis.call('HINCRBY', KEYS[1], 'seq', 1) end
  return {0, now, seq, stage, cursor, counts[1], counts[2], counts[3], packed_entries()}
end

for i = 8, #ARGV do
  local rows = redis.call('XRANGE', lane.messages, ARGV[i], ARGV[i])
  if #rows > 0 and not take(1, rows[1], redis.call('HGET', lane.states, ARGV[i])) then
    return answer(1)
  end
end

if cursor > 0 then
  -- Those ahead of the cursor may be many. So the parts grow, and each begins at the
  -- due where the one before has ended: Redis counts out every step of an offset.
  local from, offset, part = late, 0, limit
  while true do
    local rows = redis.call('ZRANGEBYSCORE', lane.due, from, now, 'WITHSCORES', 'LIMIT', offset, part)
    for i = 1, #rows, 2 do
      local position, due = tonumber(rows[i]), tonumber(rows[i + 1])
      if position <= cursor and (due > late or position > late_position) then
        local entry = redis.call('XRANGE', lane.messages, position, position)
        if #entry > 0 and not take(2, entry[1], redis.call('HGET', lane.states, position)) then
          return answer(2)
        end
      end
      if due > from then from, offset = due, 0 end
      offset = offset + 1
    end
    if #rows < 2 * part then break end
    part = math.max(part, math.min(2 * part, 1000))
  end
end

local began = cursor
local stateful = redis.call('HLEN', lane.states) > 0
local scanned = 0
while cursor < last do
  local rows = read_page(lane.messages, cursor, limit - n)
  if #rows == 0 then
    cursor = last
    break
  end
  local states = {}
  if stateful then
    local positions = {}
    for i = 1, #rows do positions[i] = position_of(rows[i]) end
    states = redis.call('HMGET', lane.states, unpack(positions))
  end
  for i = 1, #rows do
    local state = states[i]
    local ready = true
    if state then
      local m = read_state(state)
      ready = m.due > 0 and m.due <= now or m.due == 0 and not has(m, DELIVERED)
    end
    if ready and not take(3, rows[i], state) then
      cursor = position_of(rows[i])
      return answer(3, true)
    end
  end
  cursor = position_of(rows[#rows])
  scanned = scanned + #rows
  -- Those that await their receipts are passed over; not all of them in one run.
  if scanned > limit + 4096 then return answer(3, true) end
end
return answer(4, cursor > began)
