-- The view of one root that all calls of one function call share: read in one command, decided on in
-- turn, and written in one command, however many they are. A command costs the server more than the
-- decision that it serves.
--
-- `values` are the fields of the root's `money` hash: a text as it was read, a number as it was put,
-- a window's state (window.lua), or false where there is none. Nothing of it outlives the call.

view = {}

-- What unpack() may lay on Lua's stack at once, with room to spare.
local MOST_UNPACKED = 4000

function view.open(keys, now)
  return {
    keys = keys, now = now, values = {}, fields = {}, field_count = 0,
    changed = {}, changed_count = 0, is_changed = {}, due = {}, listed = {}, unlisted = {},
  }
end

-- Has the first `count` fields read with all others.
function view.want(of, fields, count)
  local values, wanted, at = of.values, of.fields, of.field_count
  for index = 1, count do
    local field = fields[index]
    if values[field] == nil then
      values[field], at = false, at + 1
      wanted[at] = field
    end
  end
  of.field_count = at
end

-- Reads what is wanted. Ends the call unless the root is installed and whole.
function view.read(of)
  local keys, values, fields = of.keys, of.values, of.fields
  view.want(of, ROOT_FIELDS, #ROOT_FIELDS)
  for first = 1, of.field_count, MOST_UNPACKED do
    local last = math.min(first + MOST_UNPACKED - 1, of.field_count)
    local found = call('HMGET', keys.money, unpack(fields, first, last))
    for index = first, last do
      values[fields[index]] = found[index - first + 1]
    end
  end
  if not values.installed then
    local seen = seen_roots[keys.money]
    if seen and seen.must_exist_until > of.now then
      epoch.lose()
    end
    arguments.answer({'NOTINSTALLED'})
  end
  if tonumber(values.open_holds) ~= call('ZCARD', keys.deadlines) then
    epoch.lose()
  end
end

-- Writes the value at the end; false takes the field out.
function view.put(of, field, value)
  of.values[field] = value
  if not of.is_changed[field] then
    local count = of.changed_count + 1
    of.is_changed[field], of.changed[count], of.changed_count = true, field, count
  end
end

local function write_now(of, field)
  if of.is_changed[field] then
    call('HSET', of.keys.money, field, money.text(of.values[field]))
    of.is_changed[field] = nil
  end
end

-- Adds to an amount. Beyond MAX_INTEGER a double is no longer exact: Valkey adds, and at once.
function view.add(of, field, change)
  local before = tonumber(of.values[field] or 0)
  if before <= MAX_INTEGER and before + change <= MAX_INTEGER then
    if change ~= 0 then
      view.put(of, field, before + change)
    end
    return
  end
  write_now(of, field)
  money.add(of.keys.money, field, change)
  of.values[field] = call('HGET', of.keys.money, field)
end

-- Ends the call where a newer snapshot of the org was used before than `version`; else remembers
-- this one, even if the call is refused later: a suspension or a lower cap that was seen once must
-- bind everyone.
function view.accept_version(of, org, version)
  local field = 'version:' .. org
  local known = tonumber(of.values[field] or 0)
  if version < known then
    arguments.answer({'STALE', money.text(known)})
  end
  if version > known then
    view.put(of, field, version)
  end
end

-- Puts a hold among the open ones, of which the number is kept; again with a later deadline.
function view.list(of, id, deadline, is_new)
  local listed = of.listed
  listed[#listed + 1], listed[#listed + 2] = money.text(deadline), id
  if is_new then
    view.add(of, 'open_holds', 1)
  end
end

-- The opposite.
function view.unlist(of, id)
  of.unlisted[#of.unlisted + 1] = id
  view.add(of, 'open_holds', -1)
end

-- Fields and values of `money` that have changed, and the fields that are gone.
local function changes(of)
  local values, writes, count, gone = of.values, {}, 0, {}
  for index = 1, of.changed_count do
    local field = of.changed[index]
    local value = values[field]
    if type(value) == 'table' then
      count = window.write(value, writes, count)
    elseif not value then
      gone[#gone + 1] = field
    elseif of.is_changed[field] then  -- else it was written at once
      writes[count + 1], writes[count + 2] = field, money.text(value)
      count = count + 2
    end
  end
  return writes, count, gone
end

local function in_parts(command, key, list, count)
  for first = 1, count, MOST_UNPACKED do
    call(command, key, unpack(list, first, math.min(first + MOST_UNPACKED - 1, count)))
  end
end

-- Writes all that has changed.
function view.close(of)
  local keys = of.keys
  local writes, count, gone = changes(of)
  in_parts('HSET', keys.money, writes, count)
  in_parts('HDEL', keys.money, gone, #gone)
  if #of.listed > 0 then
    in_parts('ZADD', keys.deadlines, of.listed, #of.listed)
    if tonumber(of.values.open_holds) * 2 <= #of.listed then  -- it may just have been made
      root.let_expire(keys.deadlines)
    end
  end
  in_parts('ZREM', keys.deadlines, of.unlisted, #of.unlisted)
  root.forget_later(keys, of.due)
end
