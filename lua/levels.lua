-- The levels of a request, root first. Nothing here or in admit depends on what kinds there are.

local levels = {}

local MAX_LEVELS = 16
local MAX_PERIODS = 16

local function read_period(reader, what)
  local period = {
    name = arguments.word(reader, what .. '.name'),
    id = arguments.period_id(reader, what .. '.id'),
    start_unix = arguments.integer(reader, what .. '.start'),
    end_unix = arguments.integer(reader, what .. '.end'),
    soft = arguments.optional_integer(reader, what .. '.soft cap'),
    hard = arguments.optional_integer(reader, what .. '.hard cap'),
  }
  if period.end_unix <= period.start_unix then
    arguments.reject(what .. ' ends before it starts')
  end
  return period
end

local function read_level(reader, what)
  local level = {
    what = what,
    kind = arguments.word(reader, what .. '.kind'),
    id = arguments.name(reader, what .. '.id'),
    suspended = arguments.flag(reader, what .. '.suspended'),
    requests = arguments.optional_integer(reader, what .. '.requests'),
    tokens = arguments.optional_integer(reader, what .. '.tokens'),
    periods = {},
  }
  level.ref = level.kind .. ':' .. level.id
  local count = arguments.integer(reader, what .. '.periods')
  if count > MAX_PERIODS then
    arguments.reject(what .. ' has more than ' .. MAX_PERIODS .. ' periods')
  end
  for index = 1, count do
    table.insert(level.periods, read_period(reader, what .. '.periods[' .. (index - 1) .. ']'))
  end
  return level
end

function levels.read(reader)
  local count = arguments.integer(reader, 'levels')
  if count < 1 or count > MAX_LEVELS then
    arguments.reject('there must be 1 to ' .. MAX_LEVELS .. ' levels')
  end
  local list, seen = {}, {}
  for index = 1, count do
    local level = read_level(reader, 'levels[' .. (index - 1) .. ']')
    if seen[level.ref] then
      arguments.reject(level.what .. ' is there twice: it would count twice')
    end
    seen[level.ref] = true
    table.insert(list, level)
  end
  return list
end

-- The accounts that a new hold goes on.
function levels.current_accounts(list, now)
  local accounts = {}
  for _, level in ipairs(list) do
    for _, period in ipairs(account.current(level, now)) do
      local slot = account.slot(level.kind, level.id, period.name, period.id)
      table.insert(accounts, {level = level, period = period, slot = slot})
    end
  end
  return accounts
end

-- The accounts of an existing hold, with the caps that the request gives for them. Where its period
-- is over and no longer among the request's, the caps of the current period of that name hold.
function levels.accounts_of(list, record, now)
  local by_slot, by_name = {}, {}
  for _, level in ipairs(list) do
    for _, period in ipairs(level.periods) do
      local slot = account.slot(level.kind, level.id, period.name, period.id)
      by_slot[slot] = {level = level, period = period, slot = slot}
    end
    for _, period in ipairs(account.current(level, now)) do
      by_name[level.kind .. ':' .. period.name .. ':' .. level.id] = {level = level, period = period}
    end
  end
  local accounts = {}
  for _, slot in ipairs(record.slots) do
    local kind, name, _, id = string.match(slot, '^([^:]*):([^:]*):([^:]*):(.*)$')
    local found = by_slot[slot] or by_name[kind .. ':' .. name .. ':' .. id]
    if not found then
      arguments.reject('levels: the hold stands on "' .. slot .. '", which the request does not name')
    end
    table.insert(accounts, {level = found.level, period = found.period, slot = slot})
  end
  return accounts
end

function levels.slots(accounts)
  local slots = {}
  for _, entry in ipairs(accounts) do
    table.insert(slots, entry.slot)
  end
  return slots
end
