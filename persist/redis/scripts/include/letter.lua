-- Stores a dead letter under the next number. place is where the message was in
-- the outbox, "lane:position", or empty. first and last are errors, with their times
-- (0: there was none); expiry is the message's, in milliseconds.
local function add_letter(totals, dead, fates, side, state, place, group, key, code, reason, attempts,
    first, first_at, last, last_at, expiry, body)
  local number = redis.call('HINCRBY', totals, 'letter', 1)
  redis.call('XADD', dead, number .. '-0', 'side', side, 'state', state, 'place', place, 'group', group,
    'key', key, 'code', code, 'reason', reason, 'attempts', attempts, 'at', now, 'first', first, 'first_at', first_at,
    'last', last, 'last_at', last_at, 'expiry', expiry, 'body', body)
  if place ~= '' then redis.call('HSET', fates, place, number) end
  local counter = 'consumer'
  if side == '1' then counter = state == '4' and 'expired' or 'failed' end
  redis.call('HINCRBY', totals, counter, 1)
end
