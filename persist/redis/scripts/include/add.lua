-- Adds messages to the outbox. KEYS[1] are the totals, KEYS[2] the IDs, and from
-- KEYS[lanes_at] on five keys for each lane that is concerned, whose numbers are
-- in ARGV from numbers_at on.
local lanes = {}
local function open_lanes(count, lanes_at, numbers_at)
  for i = 1, count do
    local lane = lane_keys(lanes_at + 5 * (i - 1), ARGV[numbers_at + i - 1])
    lane.next = tonumber(redis.call('HGET', lane.hash, 'next')) or 0
    lane.first, lane.dropped = lane.next, 0
    lanes[i] = lane
  end
end

local size = nil
local due_now = false

-- One call of Enqueue: n messages from ARGV[at] on, two arguments each. The
-- first says how to store the message: a byte with the index of its lane, and
-- for one that is not plain a byte of flags (16: idempotent), delay (6), expiry
-- (6) and the ID. The second is the message. Nothing is written before all is
-- checked, since a script that fails half-way leaves what it did. Without checks
-- the answer has for each lane the last position before the call; else it has
-- for each message a byte that is 1 for a duplicate, its lane and its position,
-- or is nil if the limit does not leave room.
local function add(at, n, checked, limit)
  local plan = {}
  local news = n
  if checked then
    local seen, droppable = {}, {}
    news = 0
    for i = 1, n do
      local how = ARGV[at + 2 * (i - 1)]
      local lane = string.byte(how, 1)
      local twin, place = nil, nil
      if #how > 1 then
        local flags = string.byte(how, 2)
        local id = string.sub(how, 15)
        if flags >= 16 then
          twin = seen[id]
          if not twin then place = redis.call('HGET', KEYS[2], id) end
        end
        if not twin and not place then
          if flags % 4 >= 2 and not seen[id] then seen[id] = i end
          if flags % 8 >= 4 then droppable[lane] = (droppable[lane] or 0) + 1 end
        end
      end
      if twin then
        plan[i] = twin
      elseif place then
        plan[i] = string.match(place, '^%S+')
      else
        news = news + 1
      end
    end
    if limit > 0 then
      if not size then size = tonumber(redis.call('HGET', KEYS[1], 'size')) or 0 end
      local excess = size + news - limit
      local victims = {}
      for i = 1, #lanes do -- [OUTBOX-9]
        local want = math.min(droppable[i] or 0, excess - #victims)
        if want > 0 then
          for _, position in ipairs(redis.call('ZRANGE', lanes[i].droppable, 0, want - 1)) do
            victims[#victims + 1] = {lanes[i], position}
          end
        end
      end
      if excess > #victims then return nil end
      for _, victim in ipairs(victims) do
        local lane, position = victim[1], victim[2]
        local state = read_state(redis.call('HGET', lane.states, position))
        if remove(lane, KEYS[2], position, state) then
          lane.dropped = lane.dropped + 1
        else
          redis.call('ZREM', lane.droppable, position)
        end
        size = size - 1
      end
      size = size + news
    end
  end
  local answer = {}
  if not checked then
    for i = 1, #lanes do answer[i] = struct.pack('>I6', lanes[i].next) end
  end
  for i = 1, n do
    local how = ARGV[at + 2 * (i - 1)]
    local lane = lanes[string.byte(how, 1)]
    local planned = plan[i]
    if not planned then
      local position = lane.next + 1
      lane.next = position
      local body = ARGV[at + 2 * i - 1]
      if #how == 1 then
        due_now = true
        redis.call('XADD', lane.messages, position .. '-0', 't', now, 'b', body)
      else
        local flags, delay, expiry = struct.unpack('>BI6I6', how, 2)
        if expiry > 0 then
          redis.call('XADD', lane.messages, position .. '-0', 't', now, 'b', body, 'x', now + expiry)
        else
          redis.call('XADD', lane.messages, position .. '-0', 't', now, 'b', body)
        end
        flags = flags % 16
        local id = flags % 4 >= 2 and string.sub(how, 15) or ''
        if flags ~= 0 or delay > 0 then
          local due = delay > 0 and now + delay or 0
          write_state(lane, position, {flags = flags, attempts = 0, code = 0, due = due, id = id, last_at = 0})
          if due > 0 then redis.call('ZADD', lane.due, due, member(position)) end
        end
        if delay == 0 then due_now = true end
        if flags % 8 >= 4 then redis.call('ZADD', lane.droppable, position, position) end
        if id ~= '' then learn(KEYS[2], id, lane.number .. ':' .. position) end
      end
      if checked then answer[i] = struct.pack('>BBI6', 0, lane.number, position) end
    elseif type(planned) == 'number' then
      answer[i] = string.char(1) .. string.sub(answer[planned], 2)
    else
      local number, position = string.match(planned, '^(%d+):(%d+)$')
      answer[i] = struct.pack('>BBI6', 1, number, position)
    end
  end
  return table.concat(answer)
end

-- Writes the counters of what was added.
local function close_lanes()
  local grown = 0
  for i = 1, #lanes do
    local lane = lanes[i]
    local added = lane.next - lane.first
    if added > 0 or lane.dropped > 0 then
      redis.call('HSET', lane.hash, 'next', lane.next)
      redis.call('HINCRBY', lane.hash, 'pending', added - lane.dropped)
      if lane.dropped > 0 then redis.call('HINCRBY', lane.hash, 'dropped', lane.dropped) end
      grown = grown + added - lane.dropped
    end
  end
  if grown ~= 0 then redis.call('HINCRBY', KEYS[1], 'size', grown) end
end
