-- An entry as Go reads it: position (6 bytes), at (6), expires (6, zero for
-- never), length of the state (4), length of the message (4), both.
local function pack_entry(position, entry, state)
  local at, body, expires = fields(entry)
  state, body = state or '', body or ''
  return struct.pack('>I6I6I6I4I4', position, tonumber(at) or 0, tonumber(expires) or 0, #state, #body) .. state, body
end
