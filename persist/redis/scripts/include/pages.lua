-- Reads a stream a few entries at a time, the more the smaller they are, so that
-- large messages do not fill the server's memory.
local width = 4
local function read_page(stream, after, most)
  local rows = redis.call('XRANGE', stream, after + 1, '+', 'COUNT', math.min(width, most))
  local bytes = 0
  for i = 1, #rows do
    local f = rows[i][2]
    bytes = bytes + #(f[2] or '') + #(f[#f] or '') -- where messages and letters have their bytes
  end
  if bytes < 262144 then
    width = math.min(width * 4, 512)
  elseif bytes > 1048576 then
    width = math.max(math.floor(width / 4), 1)
  end
  return rows, bytes
end
