-- Remembers what became of a message that gave way [OUTBOX-15]: 'd' for dropped, 's'
-- for superseded, in the hash of fates by the message's place. The stream has the
-- places of the latest of them, of which the oldest are forgotten. No number comes
-- twice, as with letters.
local function gave_way(totals, fates, stream, place, how)
  local number = redis.call('HINCRBY', totals, 'gave', 1)
  redis.call('XADD', stream, number .. '-0', 'p', place)
  redis.call('HSET', fates, place, how)
  local old = number - 65536
  if old <= 0 then return end
  for _, row in ipairs(redis.call('XRANGE', stream, '-', old, 'COUNT', 2)) do
    redis.call('HDEL', fates, row[2][2])
    redis.call('XDEL', stream, row[1])
  end
end
