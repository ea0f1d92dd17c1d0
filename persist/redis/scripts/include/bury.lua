-- Moves a message of the outbox to the dead letters [OUTBOX-11]; false if it is
-- not there. The counters of the lane are the caller's.
local function bury(lane, ids, totals, dead, fates, position, m, state, code, reason, attempts)
  local rows = redis.call('XRANGE', lane.messages, position, position)
  if #rows == 0 then return false end
  local expires = expires_of(rows[1])
  -- What was given up for good has just failed; what has expired may have before.
  if state == '3' then write_error(m, reason) end
  remove(lane, ids, position, m)
  add_letter(totals, dead, fates, '1', state, lane.number .. ':' .. position, '', '', code, reason,
    m.attempts + attempts, m.first, m.first_at, m.last_at > 0 and m.reason or '', m.last_at,
    expires and expires - at_of(rows[1]) or 0, body_of(rows[1]))
  return true
end
