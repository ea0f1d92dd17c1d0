-- Tells the handles of the store that messages may be due. An ACL may forbid the
-- channel, which must not stop the rest: who waits polls as well.
local function wake(channel, sender) redis.pcall('PUBLISH', channel, sender) end
