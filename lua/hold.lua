-- A hold's record: one string under the hold's id. It remembers the slots it was put on and the
-- levels that count it, so that it ends on those, whatever period and limits there are by then.
-- Open holds with money, or that a level counts, are in `deadlines`, and their number in the money
-- hash: where the two differ, something was lost (root.read).
--
-- state: held → released (no call was made) → estimated → actual

local hold = {}

hold.RANK = {held = 0, released = 1, estimated = 2, actual = 3}

-- A line of numbers, then a line for each slot, each counting level, each level with token windows.
local HEAD = '^(%a+) (%d+) (%d+) (%d*) (%d+) (%d+) (%d+) (%d+)\n'

-- The record, or nil.
function hold.read(keys)
  local stored = redis.call('GET', keys.hold)
  if not stored then
    return nil
  end
  local state, amount, deadline, tokens, admitted, window_ms, slots, counted =
    string.match(stored, HEAD)
  local record = {
    state = state,
    amount = tonumber(amount),
    deadline = tonumber(deadline),
    tokens = tonumber(tokens),  -- nil where installed from Postgres: windows start empty
    admitted = tonumber(admitted),
    window = tonumber(window_ms),
    slots = {},
    counted = {},
    levels = {},
  }
  local first_level, at = slots + counted, -1
  slots = tonumber(slots)
  for line in string.gmatch(stored, '[^\n]+') do
    at = at + 1
    if at > first_level then
      record.levels[at - first_level] = line
    elseif at > slots then
      record.counted[at - slots] = line
    elseif at > 0 then
      record.slots[at] = line
    end
  end
  return record
end

local function lines(list)
  return #list > 0 and table.concat(list, '\n') .. '\n' or ''
end

function hold.write(keys, record, ttl_ms)
  local head = string.format('%s %d %d %s %d %d %d %d\n',
    record.state, record.amount, record.deadline, record.tokens and money.text(record.tokens) or '',
    record.admitted, record.window, #record.slots, #record.counted)
  redis.call('SET', keys.hold,
    head .. lines(record.slots) .. lines(record.counted) .. lines(record.levels),
    'PX', money.text(ttl_ms))
end

-- Whether an open hold is among those that are swept when they expire: all but a mere memory of an
-- id, which holds nothing.
function hold.listed(record)
  return record.amount > 0 or #record.counted > 0
end

-- How long the record of an open hold is kept.
function hold.open_ttl(record, now)
  if not hold.listed(record) then
    return math.max(1, record.deadline - now) + FINAL_TTL_MS
  end
  return math.max(
    FINAL_TTL_MS, math.min(record.deadline - now + RECORD_TTL_MS, RECORD_TTL_MAX_MS))
end

-- Puts the hold among the open ones. `open_holds` is how many there were, nil where it was one of
-- them; `writes` takes their new number.
function hold.list(keys, id, deadline, open_holds, writes)
  redis.call('ZADD', keys.deadlines, money.text(deadline), id)
  if open_holds then
    table.insert(writes, 'open_holds')
    table.insert(writes, money.text(open_holds + 1))
    if open_holds == 0 then
      root.let_expire(keys.deadlines)
    end
  end
end

-- The opposite.
function hold.unlist(keys, id, open_holds, writes)
  redis.call('ZREM', keys.deadlines, id)
  table.insert(writes, 'open_holds')
  table.insert(writes, money.text(open_holds - 1))
end
