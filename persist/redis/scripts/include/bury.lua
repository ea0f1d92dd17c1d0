-- Moves a message of the outbox to the dead letters [OUTBOX-11]; false if it is
-- not there. The counters of the lane are the caller's.
local function bury(lane, ids, totals, dead, fates, position, m, state, code, reason, attempts)
  local rows = redis.call('XRANGE', lane.messages, position, position)
  if #rows == 0 then return false end
  local _, body = fields(rows[1])
  remove(lane, ids, position, m)
  add_letter(totals, dead, fates, '1', state, lane.number .. ':' .. position, '', '', code, reason,
    m.attempts + attempts, body or '')
  return true
end
