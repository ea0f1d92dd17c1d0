-- Purpose: record what became of messages that were handed out.
-- KEYS: lane, messages, states, dues, droppable, IDs, totals, dead letters, fates,
-- what gave way, the latest.
-- ARGV: epoch, pages read, number of the lane, the least due that may be given, number of
-- settlements that are not deliveries, for each position, outcome (1: retry,
-- 2: failed, 3: expired, 4: superseded), reason code and reason; then runs of
-- deliveries: first and last position, time-out of the receipt, bytes of the messages
-- if all of them are plain (-1: not known).
-- Result: 0, or 1 if the lease was lost.
-- Atomicity: the lease is all there is to check. Run twice, what is gone is
-- ignored, and a retry counts twice.
--#include held
--#include clock
--#include beyond
--#include state
--#include letter
--#include bury
--#include gaveway
local lane = lane_keys(1, ARGV[3])
local ids, totals, dead, fates = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
lane.latest = KEYS[11]
local pending, delivered = 0, 0

local function count(m)
  if has(m, DELIVERED) then delivered = delivered - 1 else pending = pending - 1 end
end

local at = 6
for _ = 1, tonumber(ARGV[5]) do
  local position, outcome, code, reason = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local s = redis.call('HGET', lane.states, position)
  local m = read_state(s)
  if outcome == '1' then
    if s or #redis.call('XRANGE', lane.messages, position, position) > 0 then
      m.attempts, m.code = m.attempts + 1, tonumber(code)
      write_error(m, reason)
      write_state(lane, position, m)
    end
  elseif outcome == '4' then
    if remove(lane, ids, position, m) then
      gave_way(totals, fates, KEYS[10], lane.number .. ':' .. position, 's')
      redis.call('HINCRBY', lane.hash, 'superseded', 1)
      count(m)
    end
  elseif bury(lane, ids, totals, dead, fates, position, m,
      outcome == '2' and '3' or '4', code, reason, outcome == '2' and 1 or 0) then
    count(m)
  end
end

-- A message that asked for a receipt is kept.
local least = tonumber(ARGV[4])
local function await(position, m, timeout)
  if m.due > 0 then redis.call('ZREM', lane.due, member(position)) end
  m.due = 0
  if timeout > 0 then
    m.due = math.max(now + timeout, least)
    redis.call('ZADD', lane.due, m.due, member(position))
  end
  if not has(m, DELIVERED) then
    m.flags = m.flags + DELIVERED
    pending, delivered = pending - 1, delivered + 1
    if has(m, DROPPABLE) then redis.call('ZREM', lane.droppable, position) end
  end
  write_state(lane, position, m)
end

-- The bytes of the messages between two positions, both included. With delete they
-- are deleted, and counted.
local function bytes_of(first, last, delete)
  local n = 0
  while first <= last do
    local rows = redis.call('XRANGE', lane.messages, first, last, 'COUNT', 500)
    if #rows == 0 then break end
    local ids = {}
    for i = 1, #rows do
      n = n + #body_of(rows[i])
      ids[i] = rows[i][1]
    end
    first = position_of(rows[#rows]) + 1
    if delete then pending = pending - redis.call('XDEL', lane.messages, unpack(ids)) end
  end
  return n
end

-- How many messages the lane has, and the highest position that was given out.
local had, given = nil, nil
local function dense(from)
  if not had then
    local f = redis.call('HMGET', lane.hash, 'pending', 'delivered', 'next')
    had, given = (tonumber(f[1]) or 0) + (tonumber(f[2]) or 0), tonumber(f[3]) or 0
  end
  return had + pending + delivered == given - from + 1
end

-- Deletes plain messages. If nothing is left before them the stream is cut off,
-- which takes whole nodes; else each is deleted. What they have in bytes the holder
-- knows. That holds if none of them is gone, which is certain if nothing is missing
-- in the lane; else they are read.
local behind = true
local function delete(first, last, bytes)
  if behind then
    local rows = redis.call('XRANGE', lane.messages, '-', '+', 'COUNT', 1)
    if #rows == 0 then return end
    local head = position_of(rows[1])
    if head >= first then
      if head > first or bytes < 0 or not dense(head) then bytes = bytes_of(first, last) end
      lane.freed = (lane.freed or 0) + bytes
      pending = pending - redis.call('XTRIM', lane.messages, 'MINID', '=', last + 1)
      return
    end
    behind = false
  end
  lane.freed = (lane.freed or 0) + bytes_of(first, last, true)
end

local function settle_run(first, last, timeout, bytes)
  if redis.call('HLEN', lane.states) == 0 then return delete(first, last, bytes) end
  while first <= last do
    local stop = math.min(last, first + 999)
    local positions = {}
    for position = first, stop do positions[#positions + 1] = position end
    local states = redis.call('HMGET', lane.states, unpack(positions))
    local plain = nil -- the first of plain ones
    for i = 1, #positions do
      local position = positions[i]
      if states[i] then
        if plain then delete(plain, position - 1, -1) end
        plain = nil
        local m = read_state(states[i])
        if has(m, RECEIPT) then
          await(position, m, timeout)
        elseif remove(lane, ids, position, m) then
          count(m)
        end
      elseif not plain then
        plain = position
      end
    end
    if plain then delete(plain, stop, -1) end
    first = stop + 1
  end
end

while at <= #ARGV do
  settle_run(tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
  at = at + 4
end
shrink(lane, totals)
if pending ~= 0 then redis.call('HINCRBY', lane.hash, 'pending', pending) end
if delivered ~= 0 then redis.call('HINCRBY', lane.hash, 'delivered', delivered) end
if pending + delivered ~= 0 then redis.call('HINCRBY', totals, 'size', pending + delivered) end
return {0}
