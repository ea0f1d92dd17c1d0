-- Purpose: change packet state [SESSION-2].
-- KEYS: session.
-- ARGV: epoch, 1 to clear, number of fields to delete, these fields, then name and
-- value of fields to put.
-- Result: 0, or -1 if a higher epoch has the session.
-- Atomicity: the epoch is all there is to check. Run twice it does the same.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return -1 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
if ARGV[2] == '1' then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
end
local n = tonumber(ARGV[3])
for i = 4, 3 + n do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = 4 + n, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 0
