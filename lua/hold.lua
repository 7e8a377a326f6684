-- A hold's record: a hash of its own under the hold's id. It remembers the slots it was put on, so
-- that it ends on those, whatever period it is by then. Open holds with money are in `deadlines`,
-- and their number in the money hash: where the two differ, something was lost (root.open).
--
-- state: held → released (no call was made) → estimated → actual

local hold = {}

hold.RANK = {held = 0, released = 1, estimated = 2, actual = 3}

local function split(text)
  local parts = {}
  for part in string.gmatch(text or '', '[^\n]+') do
    table.insert(parts, part)
  end
  return parts
end

function hold.read(keys)
  local found = redis.call('HMGET', keys.hold,
    'state', 'amount', 'deadline', 'tokens', 'admitted', 'window', 'slots', 'levels')
  if not found[1] then
    return nil
  end
  return {
    state = found[1],
    amount = tonumber(found[2]),
    deadline = tonumber(found[3]),
    tokens = tonumber(found[4]),  -- nil where installed from Postgres: windows start empty
    admitted = tonumber(found[5]),
    window = tonumber(found[6]),
    slots = split(found[7]),
    levels = split(found[8]),
  }
end

function hold.record_ttl(deadline, now)
  return math.max(FINAL_TTL_MS, math.min(deadline - now + RECORD_TTL_MS, RECORD_TTL_MAX_MS))
end

function hold.write(keys, record, ttl_ms)
  redis.call('HSET', keys.hold,
    'state', record.state,
    'amount', money.text(record.amount),
    'deadline', money.text(record.deadline),
    'tokens', record.tokens and money.text(record.tokens) or '',
    'admitted', money.text(record.admitted),
    'window', money.text(record.window),
    'slots', table.concat(record.slots, '\n'),
    'levels', table.concat(record.levels, '\n'))
  redis.call('PEXPIRE', keys.hold, money.text(ttl_ms))
end

function hold.list(keys, id, deadline)
  if redis.call('ZADD', keys.deadlines, money.text(deadline), id) == 1 then
    money.add(keys.money, 'open_holds', 1)
  end
end

function hold.unlist(keys, id)
  if redis.call('ZREM', keys.deadlines, id) == 1 then
    money.add(keys.money, 'open_holds', -1)
  end
end
