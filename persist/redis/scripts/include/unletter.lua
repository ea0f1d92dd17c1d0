-- Deletes a dead letter; false if it is not there. f are its fields as XRANGE
-- returns them: names at odd indexes.
local function letter_fields(f)
  local l = {}
  for i = 1, #f, 2 do l[f[i]] = f[i + 1] end
  return l
end

local function remove_letter(totals, dead, fates, number)
  local rows = redis.call('XRANGE', dead, number, number)
  if #rows == 0 then return false end
  local l = letter_fields(rows[1][2])
  redis.call('XDEL', dead, number .. '-0')
  if l.place and l.place ~= '' and redis.call('HGET', fates, l.place) == number then
    redis.call('HDEL', fates, l.place)
  end
  local counter = 'consumer'
  if l.side == '1' then counter = l.state == '4' and 'expired' or 'failed' end
  redis.call('HINCRBY', totals, counter, -1)
  return true
end
