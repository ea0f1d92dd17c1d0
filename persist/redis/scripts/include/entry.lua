-- Entries as Go reads them: a text with their heads, one with their states, and the
-- messages, which are not copied: most of what a script takes is what it does with
-- bytes. A head is "position-at"; where something is kept beside the message it is
-- "position-at-expires-length", with the length of the state. There is a space
-- between two heads, and nothing between two states.
local heads, kept, bodies, packed = {}, {}, {}, 0

-- Adds an entry, and returns the bytes of its message.
local function pack_entry(entry, state)
  local f = entry[2]
  local body, expires = f[2] or '', f[4]
  packed = packed + 1
  bodies[packed] = body
  if state or expires then
    state = state or ''
    heads[packed] = entry[1] .. '-' .. (expires or 0) .. '-' .. #state
    kept[#kept + 1] = state
  else
    heads[packed] = entry[1]
  end
  return #body
end

local function packed_entries() return {table.concat(heads, ' '), table.concat(kept), bodies} end
