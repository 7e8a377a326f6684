-- Accounts: settled and held amounts of one level in one period. A slot names an account:
-- "<kind>:<period>:<period id>:<level id>"; only the last part may contain colons. In the root's
-- `money` hash "settled:<slot>" and "held:<slot>" are the amounts.

local account = {}

local PRUNED_PER_CALL = 4

function account.slot(kind, id, period, period_id)
  return kind .. ':' .. period .. ':' .. period_id .. ':' .. id
end

-- The period of each name that covers the server's time; a name that is not covered ends the call:
-- a plane with a wrong clock must not spend on no account at all.
function account.current(level, now)
  local chosen, names, covered = {}, {}, {}
  for _, period in ipairs(level.periods) do
    if covered[period.name] == nil then
      table.insert(names, period.name)
      covered[period.name] = false
    end
    if period.start_unix * 1000 <= now and now < period.end_unix * 1000 then
      if covered[period.name] then
        arguments.reject(level.what .. ': two periods "' .. period.name .. '" cover the same time')
      end
      covered[period.name] = true
      table.insert(chosen, period)
    end
  end
  for _, name in ipairs(names) do
    if not covered[name] then
      arguments.reject(level.what .. ': no period "' .. name .. '" covers the server\'s time, '
        .. money.text(math.floor(now / 1000)))
    end
  end
  return chosen
end

-- The amounts of the slots, in their order, as the strings that Valkey has: exact at any size.
-- `exists` is false for an account that was never used, or pruned long after its period.
function account.read(keys, slots)
  local fields, amounts = {}, {}
  for _, slot in ipairs(slots) do
    table.insert(fields, 'settled:' .. slot)
    table.insert(fields, 'held:' .. slot)
  end
  if #fields == 0 then
    return amounts
  end
  local found = redis.call('HMGET', keys.money, unpack(fields))
  for index = 1, #slots do
    local settled, held = found[2 * index - 1], found[2 * index]
    table.insert(amounts, {settled = settled or '0', held = held or '0', exists = held ~= false})
  end
  return amounts
end

-- Makes the account, known to prune(); `end_unix` is the end of its period.
function account.open(keys, slot, end_unix)
  redis.call('ZADD', keys.periods, 'NX', money.text(end_unix), slot)
  money.add(keys.money, 'held:' .. slot, 0)
end

function account.settle(keys, slot, amount)
  money.add(keys.money, 'settled:' .. slot, amount)
end

-- Positive to hold, negative to end a hold.
function account.hold(keys, slot, amount)
  money.add(keys.money, 'held:' .. slot, amount)
end

-- Clears accounts whose period has been over for days, unless a hold is still open on them.
function account.prune(keys, now)
  local before = money.text(math.floor(now / 1000) - PERIOD_GRACE_SECONDS)
  local over = redis.call(
    'ZRANGE', keys.periods, '-inf', before, 'BYSCORE', 'LIMIT', '0', PRUNED_PER_CALL)
  for _, slot in ipairs(over) do
    if redis.call('HGET', keys.money, 'held:' .. slot) == '0' then
      redis.call('HDEL', keys.money, 'settled:' .. slot, 'held:' .. slot)
      redis.call('ZREM', keys.periods, slot)
    else
      -- Out of the way of the others, and looked at again after the grace.
      redis.call('ZADD', keys.periods, money.text(math.floor(now / 1000)), slot)
    end
  end
end
