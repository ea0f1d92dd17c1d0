-- A key in work is a field of its group's hash of work: a byte that is 1 once it
-- was released, epoch (6), end of the lease (6), attempts (4), owner. A completed
-- key is a field of a small hash, one of 131,072 by the time of a message ID and a
-- hash of the key: epoch (6), end of the window (6), and a byte more if it ended with
-- a dead letter. A key is in one of the two. Bytes that cannot be read
-- count as absent.
local IN_WORK, RELEASED = 0, 1

local function read_work(s)
  if not s or #s < 17 then return nil end
  local state, epoch, till, attempts = struct.unpack('>BI6I6I4', s)
  return {state = state, epoch = epoch, till = till, attempts = attempts, owner = string.sub(s, 18)}
end

-- The same without what a completion has no need of.
local function work_epoch(s)
  if not s or #s < 17 then return nil end
  return struct.unpack('>BI6', s)
end

local function write_work(w)
  return struct.pack('>BI6I6I4', w.state, w.epoch, w.till, w.attempts) .. w.owner
end

local function read_done(s)
  if not s or #s < 12 or #s > 13 then return nil end
  local epoch, till = struct.unpack('>I6I6', s)
  return epoch, till, #s == 13
end

local function write_done(epoch, till, dead)
  return struct.pack('>I6I6', epoch, till) .. (dead and '\1' or '')
end

-- Fields of a hash by their names, read in a few calls into out. The names are in
-- ARGV from first to last, step apart.
local function read_fields(out, key, first, last, step)
  while first <= last do
    local names = {}
    while first <= last and #names < 1000 do
      names[#names + 1] = ARGV[first]
      first = first + step
    end
    local values = redis.call('HMGET', key, unpack(names))
    for i = 1, #names do out[names[i]] = values[i] end
  end
  return out
end

-- Calls a command with many arguments, a few hundred at a time. Returns the sum of
-- the answers, if they are numbers.
local function call_many(command, key, list)
  local sum = 0
  for i = 1, #list, 1000 do
    local answer = redis.call(command, key, unpack(list, i, math.min(i + 999, #list)))
    sum = sum + (tonumber(answer) or 0)
  end
  return sum
end
