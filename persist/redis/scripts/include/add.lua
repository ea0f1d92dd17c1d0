-- Adds messages to the outbox. KEYS[1] are the totals, KEYS[2] the IDs, and from
-- KEYS[lanes_at] on five keys for each lane that is concerned, whose numbers are
-- in ARGV from numbers_at on. After the lanes' keys come those of the fates, of what
-- gave way, and of the latest.
local lanes = {}
local fates, gave, latest
local function open_lanes(count, lanes_at, numbers_at)
  local last = lanes_at + 5 * count
  fates, gave, latest = KEYS[last], KEYS[last + 1], KEYS[last + 2]
  for i = 1, count do
    local lane = lane_keys(lanes_at + 5 * (i - 1), ARGV[numbers_at + i - 1])
    lane.next = tonumber(redis.call('HGET', lane.hash, 'next')) or 0
    lane.first, lane.dropped, lane.superseded, lane.added = lane.next, 0, 0, 0
    lane.latest = latest
    lanes[i] = lane
  end
end

local size, bytes = nil, nil
local due_now = false

local function body_size(lane, position)
  local rows = redis.call('XRANGE', lane.messages, position, position)
  if #rows == 0 then return nil end
  return #body_of(rows[1])
end

-- Takes a message out for another one.
local function give_way(lane, position, how)
  local state = read_state(redis.call('HGET', lane.states, position))
  if not remove(lane, KEYS[2], position, state) then return false end
  gave_way(KEYS[1], fates, gave, lane.number .. ':' .. position, how)
  return true
end

-- One call of Enqueue: n messages from ARGV[at] on. If all are plain hows has a byte
-- for each, the index of its lane; else it is empty, and there are two arguments for
-- each message. The
-- first says how to store the message: a byte with the index of its lane, and
-- for one that is not plain a byte of flags (16: idempotent), delay (6), expiry
-- (6), the hash of its key (16) if it supersedes, and the ID. The second is the
-- message. Nothing is written before all is
-- checked, since a script that fails half-way leaves what it did. Without checks
-- the answer has for each lane the last position before the call; else it has
-- for each message a byte that is 1 for a duplicate, its lane and its position,
-- or is nil if the limits ("messages bytes", 0: none) do not leave room, and then
-- which it is, the limit, what is held and what was to be added follow.
local function add(at, n, hows, checked, limits)
  local plan = {}
  local plain = hows ~= ''
  local each = plain and 1 or 2 -- arguments
  if checked then
    local most, most_bytes = string.match(limits, '^(%d+) (%d+)$')
    most, most_bytes = tonumber(most), tonumber(most_bytes)
    local counts = most > 0 or most_bytes > 0
    local seen, shares, newest = {}, {}, {}
    local news, new_bytes = 0, 0
    for i = 1, n do
      local how = plain and '' or ARGV[at + 2 * (i - 1)]
      local lane = string.byte(how, 1)
      local twin, place = nil, nil
      if #how > 1 then
        local flags = string.byte(how, 2)
        local id = string.sub(how, flags >= 32 and 31 or 15)
        if flags % 32 >= 16 then
          twin = seen[id]
          if not twin then place = redis.call('HGET', KEYS[2], id) end
        end
        if not twin and not place then
          if flags % 4 >= 2 and not seen[id] then seen[id] = i end
          local size = #ARGV[at + 2 * i - 1]
          if flags % 8 >= 4 then
            local share = shares[lane] or {0, 0}
            shares[lane] = {share[1] + 1, share[2] + size}
          end
          if flags >= 32 and counts then
            local key = string.sub(how, 15, 30)
            local old = newest[key]
            if not old then
              local position = redis.call('HGET', latest, key)
              old = position and body_size(lanes[lane], position)
            end
            if old then news, new_bytes = news - 1, new_bytes - old end
            newest[key] = size
          end
        end
      end
      if twin then
        plan[i] = twin
      elseif place then
        plan[i] = string.match(place, '^%S+')
      else
        news, new_bytes = news + 1, new_bytes + #ARGV[at + each * i - 1]
      end
    end
    if counts then
      if not size then
        local f = redis.call('HMGET', KEYS[1], 'size', 'bytes')
        size, bytes = tonumber(f[1]) or 0, tonumber(f[2]) or 0
      end
      local gone, gone_bytes = 0, 0
      local function excess()
        local m, b = 0, 0
        if most > 0 and news > 0 then m = size - gone + news - most end
        if most_bytes > 0 and new_bytes > 0 then b = bytes - gone_bytes + new_bytes - most_bytes end
        return m, b
      end
      local full = nil
      local m, b = excess()
      if m > 0 then
        full = {'messages', most, size, news}
      elseif b > 0 then
        full = {'bytes', most_bytes, bytes, new_bytes}
      end
      local victims = {}
      for i = 1, #lanes do -- [OUTBOX-9]
        local share, offset = shares[i] or {0, 0}, 0
        local function wants()
          local m, b = excess()
          return m > 0 and share[1] > 0 or b > 0 and share[2] > 0
        end
        while wants() do
          local found = redis.call('ZRANGE', lanes[i].droppable, offset, offset + 99)
          for _, position in ipairs(found) do
            local freed = body_size(lanes[i], position)
            if freed then
              if not wants() then break end
              victims[#victims + 1] = {lanes[i], position}
              share = {share[1] - 1, share[2] - freed}
              gone, gone_bytes = gone + 1, gone_bytes + freed
            end
          end
          if #found < 100 then break end
          offset = offset + 100
        end
      end
      m, b = excess()
      if m > 0 or b > 0 then return nil, full end
      for _, victim in ipairs(victims) do
        if give_way(victim[1], victim[2], 'd') then victim[1].dropped = victim[1].dropped + 1 end
      end
      size, bytes = size - gone + news, bytes - gone_bytes + new_bytes
    end
  end
  local answer = {}
  if not checked then
    for i = 1, #lanes do answer[i] = struct.pack('>I6', lanes[i].next) end
  end
  local superseding = {}
  local call, args, at_now = redis.call, ARGV, '-' .. now
  for i = 1, n do
    local body, how, lane = args[at + each * i - 1], nil, nil
    if plain then
      lane = lanes[string.byte(hows, i)]
    else
      how = args[at + 2 * i - 2]
      lane = lanes[string.byte(how, 1)]
    end
    local planned = plan[i]
    if not planned then
      local position = lane.next + 1
      lane.next = position
      lane.added = lane.added + #body
      if plain or #how == 1 then
        due_now = true
        call('XADD', lane.messages, position .. at_now, 'b', body)
      else
        local flags, delay, expiry = struct.unpack('>BI6I6', how, 2)
        if expiry > 0 then
          call('XADD', lane.messages, position .. at_now, 'b', body, 'x', now + expiry)
        else
          call('XADD', lane.messages, position .. at_now, 'b', body)
        end
        local skey = ''
        if flags >= 32 then
          skey = string.sub(how, 15, 30)
          superseding[#superseding + 1] = {lane, skey, position}
        end
        flags = flags % 16 + math.floor(flags / 32) * 32
        local id = flags % 4 >= 2 and string.sub(how, 15 + #skey) or ''
        if flags ~= 0 or delay > 0 then
          local due = delay > 0 and now + delay or 0
          write_state(lane, position, {flags = flags, attempts = 0, code = 0, due = due, id = id, skey = skey, last_at = 0})
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
  for _, s in ipairs(superseding) do -- [OUTBOX-14]
    local lane, skey, position = s[1], s[2], s[3]
    local old = redis.call('HGET', latest, skey)
    if old and give_way(lane, old, 's') then lane.superseded = lane.superseded + 1 end
    redis.call('HSET', latest, skey, position)
  end
  return table.concat(answer)
end

-- Writes the counters of what was added.
local function close_lanes()
  local grown, bytes_grown = 0, 0
  for i = 1, #lanes do
    local lane = lanes[i]
    local added = lane.next - lane.first
    local left = lane.dropped + lane.superseded
    if added > 0 or left > 0 then
      redis.call('HSET', lane.hash, 'next', lane.next)
      redis.call('HINCRBY', lane.hash, 'pending', added - left)
      if lane.dropped > 0 then redis.call('HINCRBY', lane.hash, 'dropped', lane.dropped) end
      if lane.superseded > 0 then redis.call('HINCRBY', lane.hash, 'superseded', lane.superseded) end
      grown = grown + added - left
      redis.call('HINCRBY', lane.hash, 'bytes', lane.added)
      bytes_grown = bytes_grown + lane.added
      shrink(lane, KEYS[1])
    end
  end
  if grown ~= 0 then redis.call('HINCRBY', KEYS[1], 'size', grown) end
  if bytes_grown ~= 0 then redis.call('HINCRBY', KEYS[1], 'bytes', bytes_grown) end
end
