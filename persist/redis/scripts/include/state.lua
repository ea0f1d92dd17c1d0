-- What is kept of a message beside the message, in the hash of states. A plain
-- pending message has nothing there. The bytes are: flags, attempts (4), reason
-- code, due (6), length of the ID, ID, hash of the ordering key (16) if the message
-- may be superseded; and if it was refused, time of the first refusal (6) and of the
-- last (6), length of the first one's reason (4), that, and the reason of the last.
-- Due is the
-- time from which Next hands the message out, zero for one that is due in its
-- place, or delivered and awaited for ever; where it is not zero it is in the
-- sorted set of dues as well.
local RECEIPT, KNOWN, DROPPABLE, DELIVERED, SUPERSEDE = 1, 2, 4, 8, 32

local function has(state, flag) return math.floor(state.flags / flag) % 2 == 1 end

local function read_state(s)
  local state = {flags = 0, attempts = 0, code = 0, due = 0, id = '', skey = '', reason = '', first = '', first_at = 0, last_at = 0}
  if not s or #s < 13 then return state end
  local n
  state.flags, state.attempts, state.code, state.due, n = struct.unpack('>BI4BI6B', s)
  state.id = string.sub(s, 14, 13 + n)
  local key = math.floor(state.flags / SUPERSEDE) % 2 * 16
  local at = 14 + n + key
  state.skey = string.sub(s, 14 + n, at - 1)
  if #s >= at + 15 then
    local size
    state.first_at, state.last_at, size = struct.unpack('>I6I6I4', s, at)
    state.first = string.sub(s, at + 16, at + 15 + size)
    state.reason = string.sub(s, at + 16 + size)
  end
  return state
end

-- Records a refusal.
local function write_error(state, reason)
  if state.last_at == 0 then state.first, state.first_at = reason, now end
  state.reason, state.last_at = reason, now
end

local function write_state(lane, position, state)
  local s = struct.pack('>BI4BI6B', state.flags, state.attempts, state.code, state.due, #state.id)
  local tail = ''
  if state.last_at > 0 then
    tail = struct.pack('>I6I6I4', state.first_at, state.last_at, #state.first) .. state.first .. state.reason
  end
  redis.call('HSET', lane.states, position, s .. state.id .. state.skey .. tail)
end

-- Members of the sorted set of dues are as long as any other, so that those of
-- one time are in the order of their positions.
local function member(position) return string.format('%015d', position) end

-- The keys of a lane, five of them from KEYS[first] on.
local function lane_keys(first, number)
  return {hash = KEYS[first], messages = KEYS[first + 1], states = KEYS[first + 2],
    due = KEYS[first + 3], droppable = KEYS[first + 4], number = number}
end

-- The stream of messages has entries with the ID "position-at", at in milliseconds,
-- and the field b, the message; then x, when it expires, if it ever does.
local function position_of(entry) return tonumber(string.match(entry[1], '^%d+')) end
local function at_of(entry) return tonumber(string.match(entry[1], '%d+$')) end
local function body_of(entry) return entry[2][2] or '' end
local function expires_of(entry) return tonumber(entry[2][4]) end

-- The hash of IDs has the places ("lane:position", apart by spaces) of the
-- messages that can be found by theirs.
local function learn(ids, id, place)
  local places = redis.call('HGET', ids, id)
  redis.call('HSET', ids, id, places and places .. ' ' .. place or place)
end

local function unlearn(ids, id, place)
  local left = {}
  for other in string.gmatch(redis.call('HGET', ids, id) or '', '%S+') do
    if other ~= place then left[#left + 1] = other end
  end
  if #left > 0 then
    redis.call('HSET', ids, id, table.concat(left, ' '))
  else
    redis.call('HDEL', ids, id)
  end
end

-- The hash of the latest has, by the hash of an ordering key, the position of the
-- message that the next one of the key supersedes. Nothing supersedes a message that
-- was handed out, or is gone.
local function settle_latest(latest, position, state)
  if has(state, SUPERSEDE) and tonumber(redis.call('HGET', latest, state.skey) or 0) == tonumber(position) then
    redis.call('HDEL', latest, state.skey)
  end
end

-- Takes a message out of the outbox, with all that is kept beside it; false if
-- it is not there. The counters are the caller's, but for the bytes: see shrink.
local function remove(lane, ids, position, state)
  local rows = redis.call('XRANGE', lane.messages, position, position)
  if #rows == 0 then return false end
  lane.freed = (lane.freed or 0) + #body_of(rows[1])
  redis.call('XDEL', lane.messages, rows[1][1])
  if lane.latest then settle_latest(lane.latest, position, state) end
  redis.call('HDEL', lane.states, position)
  if state.due > 0 then redis.call('ZREM', lane.due, member(position)) end
  if has(state, DROPPABLE) then redis.call('ZREM', lane.droppable, position) end
  if has(state, KNOWN) then unlearn(ids, state.id, lane.number .. ':' .. position) end
  return true
end

-- Writes by how many bytes the lane has shrunk, in the lane and in the totals.
local function shrink(lane, totals)
  local freed = lane.freed or 0
  if freed ~= 0 then
    redis.call('HINCRBY', lane.hash, 'bytes', -freed)
    redis.call('HINCRBY', totals, 'bytes', -freed)
  end
  lane.freed = 0
end
