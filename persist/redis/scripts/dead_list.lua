-- Purpose: list dead letters.
-- KEYS: dead letters.
-- ARGV: number after which to begin, limit, side (0: any), group (empty: any), how
-- many letters to look at, age (0: any), reason codes between spaces (empty: any).
-- Result: the number that was reached (-1: the end), then number and fields of
-- each letter.
-- Atomicity: reads only.
--#include clock
--#include unletter
--#include pages
local cursor, limit, look = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[5])
local out, size = {}, 0
while look > 0 do
  local rows, bytes = read_page(KEYS[1], cursor, look)
  if #rows == 0 then
    cursor = -1
    break
  end
  look = look - #rows
  for i = 1, #rows do
    local number = string.match(rows[i][1], '^%d+')
    cursor = tonumber(number)
    local l = letter_fields(rows[i][2])
    if (ARGV[3] == '0' or l.side == ARGV[3]) and (ARGV[4] == '' or l.group == ARGV[4])
      and (ARGV[6] == '0' or (tonumber(l.at) or 0) <= now - ARGV[6])
      and (ARGV[7] == '' or string.find(ARGV[7], ' ' .. (l.code or '') .. ' ', 1, true)) then
      out[#out + 1] = {number, rows[i][2]}
      if #out == limit then
        look = 0
        break
      end
    end
  end
  size = size + bytes
  if size > 4194304 then break end
end
return {cursor, out}
