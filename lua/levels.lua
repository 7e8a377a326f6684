-- The levels of a request, root first. Nothing here or in admit depends on what kinds there are.
--
-- A level is its fields, each ended by a newline; levels are each ended by RS (ASCII 30), which no
-- name can hold. What was read from a level is kept by its text, since the same levels come by the thousand: a level that is known costs one
-- look into a table, where reading its periods anew costs more than all the rest of an admission.

local levels = {}

local MAX_LEVELS = 16
local MAX_PERIODS = 16
-- What a level is called in an error.
local NAMES = {}
for index = 1, MAX_LEVELS do
  NAMES[index] = 'levels[' .. (index - 1) .. ']'
end
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

local function read_level(text, what)
  local reader = arguments.reader({})
  for field in string.gmatch(text, '([^\n]*)\n') do
    table.insert(reader.list, field)
  end
  local level = {
    kind = arguments.word(reader, what .. '.kind'),
    id = arguments.name(reader, what .. '.id'),
    suspended = arguments.flag(reader, what .. '.suspended'),
    shadow = arguments.flag(reader, what .. '.shadow'),
    requests = arguments.optional_integer(reader, what .. '.requests'),
    tokens = arguments.optional_integer(reader, what .. '.tokens'),
    calls = arguments.optional_integer(reader, what .. '.calls'),
    periods = {},
  }
  level.ref = level.kind .. ':' .. level.id
  level.open = 'open:' .. level.ref
  local count = arguments.integer(reader, what .. '.periods')
  if count > MAX_PERIODS then
    arguments.reject(what .. ' has more than ' .. MAX_PERIODS .. ' periods')
  end
  for index = 1, count do
    table.insert(level.periods, read_period(reader, what .. '.periods[' .. (index - 1) .. ']'))
  end
  arguments.finish(reader)
  return level
end

local known_level = kept.by_name(read_level)

-- The levels of a text, and whether each was met before.
function levels.read(text)
  local list, all_known, index = {}, true, 0
  for one in string.gmatch(text, '([^\30]*)\30') do
    index = index + 1
    if index > MAX_LEVELS then
      break
    end
    local level, known = known_level(one, NAMES[index])
    for before = 1, index - 1 do
      if list[before].ref == level.ref then
        arguments.reject(NAMES[index] .. ' is there twice: it would count twice')
      end
    end
    list[index], all_known = level, all_known and known
  end
  if index < 1 or index > MAX_LEVELS or sub(text, -1) ~= '\30' then
    arguments.reject('there must be 1 to ' .. MAX_LEVELS .. ' levels, each ended')
  end
  return list, all_known
end

-- The periods that cover the server's time, one of each name; a name that is not covered ends the
-- call: a plane with a wrong clock must not spend on no account at all.
local function choose_periods(level, what, now)
  local chosen, names, covered = {}, {}, {}
  for _, period in ipairs(level.periods) do
    if covered[period.name] == nil then
      table.insert(names, period.name)
      covered[period.name] = false
    end
    if period.start_unix * 1000 <= now and now < period.end_unix * 1000 then
      if covered[period.name] then
        arguments.reject(what .. ': two periods "' .. period.name .. '" cover the same time')
      end
      covered[period.name] = true
      table.insert(chosen, period)
    end
  end
  for _, name in ipairs(names) do
    if not covered[name] then
      arguments.reject(what .. ': no period "' .. name .. '" covers the server\'s time, '
        .. money.text(floor(now / 1000)))
    end
  end
  return chosen
end

-- The level with its accounts at this time, kept until one of their periods ends or the clock is set back.
local function with_accounts(level, what, now)
  if level.accounts and level.since <= now and now < level.till then
    return level
  end
  local accounts, since, till = {}, 0, math.huge
  for index, period in ipairs(choose_periods(level, what, now)) do
    accounts[index] = account.of(level, period)
    since = math.max(since, period.start_unix * 1000)
    till = math.min(till, period.end_unix * 1000)
  end
  level.accounts, level.since, level.till = accounts, since, till
  return level
end

-- The accounts that a new hold goes on, and from when until when (ms) these are the ones.
function levels.current_accounts(list, now)
  local all, count, since, till = {}, 0, 0, math.huge
  for index = 1, #list do
    local level = with_accounts(list[index], NAMES[index], now)
    local accounts = level.accounts
    for at = 1, #accounts do
      all[count + at] = accounts[at]
    end
    count = count + #accounts
    if level.since > since then since = level.since end
    if level.till < till then till = level.till end
  end
  return all, since, till
end

local function same_slots(accounts, slots)
  if #accounts ~= #slots then
    return false
  end
  for index, entry in ipairs(accounts) do
    if entry.slot ~= slots[index] then
      return false
    end
  end
  return true
end

-- The accounts of an existing hold, with the caps that the request gives for them; `current` are
-- those of now. Where its period is over and no longer among the request's, the caps of the current
-- period of that name hold.
function levels.accounts_of(list, current, slots)
  if same_slots(current, slots) then
    return current
  end
  local by_slot, by_name = {}, {}
  for _, level in ipairs(list) do
    for _, period in ipairs(level.periods) do
      by_slot[account.slot(level.kind, level.id, period.name, period.id)] = {level, period}
    end
  end
  for _, entry in ipairs(current) do
    by_name[entry.level.kind .. ':' .. entry.period.name .. ':' .. entry.level.id] =
      {entry.level, entry.period}
  end
  local accounts = {}
  for index, slot in ipairs(slots) do
    local kind, name, id = account.parts(slot)
    local found = by_slot[slot] or by_name[kind .. ':' .. name .. ':' .. id]
    if not found then
      arguments.reject('levels: the hold stands on "' .. slot .. '", which the request does not name')
    end
    accounts[index] = account.of(found[1], found[2], slot)
  end
  return accounts
end

function levels.slots(accounts)
  local slots = {}
  for index = 1, #accounts do
    slots[index] = accounts[index].slot
  end
  return slots
end
