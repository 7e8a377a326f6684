-- A hold's record: one string under the hold's id. It remembers the slots it was put on and the
-- levels that count it, so that it ends on those, whatever period and limits there are by then.
-- Open holds with money, or that a level counts, are in `deadlines`, and their number in the money
-- hash: where the two differ, something was lost (view.read).
--
-- state: held → released (no call was made) → estimated → actual

local hold = {}

hold.RANK = {held = 0, released = 1, estimated = 2, actual = 3}

-- A line of numbers, then where the hold stands: a line with the digest of the rest (plan.lua says what
-- for), a line of numbers, a line for each slot, each counting level, each level with token windows. A
-- hold that is over for good stands nowhere.
local HEAD = '^(%a+) (%d+) (%d+) (%d*) (%d+)\n()(%x*)'
local PLACES_HEAD = '^%x+\n(%d+) (%d+) (%d+)\n'

local function lines(list)
  return #list > 0 and table.concat(list, '\n') .. '\n' or ''
end

-- The text of where a hold stands.
function hold.places_text(window_ms, slots, counted, token_levels)
  local text = format('%d %d %d\n', window_ms, #slots, #counted)
    .. lines(slots) .. lines(counted) .. lines(token_levels)
  return redis.sha1hex(text) .. '\n' .. text
end

-- Where a hold stands, with the fields that a settlement reads: first the slots, two fields each, then
-- the counting levels, then the windows.
local known_places = kept.by_name(function(_, stored, places_at)
  local text = sub(stored, places_at)
  local window_ms, slots, counted = match(text, PLACES_HEAD)
  local places = {slots = {}, counted = tonumber(counted or 0), windows = {}, fields = {}}
  local fields, at = places.fields, -2
  local last_slot = tonumber(slots or 0)
  local last_counted = last_slot + places.counted
  for line in string.gmatch(text, '[^\n]+') do
    at = at + 1
    if at > last_counted then
      local state = window.state(line, tonumber(window_ms))
      places.windows[at - last_counted] = state
      fields[#fields + 1] = state.field
    elseif at > last_slot then
      fields[#fields + 1] = 'open:' .. line
    elseif at > 0 then
      places.slots[at] = line
      fields[#fields + 1], fields[#fields + 2] = 'held:' .. line, 'settled:' .. line
    end
  end
  places.without_windows = #fields - #places.windows
  return places
end)

-- What was stored; nil where nothing was.
function hold.read(stored)
  if not stored then
    return nil
  end
  local state, amount, deadline, tokens, admitted, places_at, digest = match(stored, HEAD)
  local places = known_places(digest, stored, places_at)
  return {
    state = state,
    amount = tonumber(amount),
    deadline = tonumber(deadline),
    tokens = tonumber(tokens),  -- nil where installed from Postgres: windows start empty
    admitted = tonumber(admitted),
    counted = places.counted,
    places = places,
    stored = stored,
    places_at = places_at,
  }
end

function hold.write(key, record, ttl_ms)
  call('SET', key, format('%s %d %d %s %d\n%s', record.state, record.amount,
    record.deadline, record.tokens and money.text(record.tokens) or '', record.admitted,
    record.places_text or sub(record.stored, record.places_at)), 'PX', money.text(ttl_ms))
end

-- Whether an open hold is among those that are swept when they expire: all but a mere memory of an
-- id, which holds nothing.
function hold.listed(record)
  return record.amount > 0 or record.counted > 0
end

-- How long the record of an open hold is kept.
function hold.open_ttl(record, now)
  if not hold.listed(record) then
    return math.max(1, record.deadline - now) + FINAL_TTL_MS
  end
  return math.max(
    FINAL_TTL_MS, math.min(record.deadline - now + RECORD_TTL_MS, RECORD_TTL_MAX_MS))
end
