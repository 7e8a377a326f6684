-- install: what Postgres knows, under the keys of a new epoch. Once per root and epoch: a second or
-- late install would bring back amounts that have moved on since it read them.

local function read_slot(reader, what)
  local kind = arguments.word(reader, what .. '.kind')
  local id = arguments.name(reader, what .. '.id')
  local period = arguments.word(reader, what .. '.period')
  local period_id = arguments.period_id(reader, what .. '.period id')
  local end_unix = arguments.integer(reader, what .. '.end')
  return {slot = account.slot(kind, id, period, period_id), end_unix = end_unix}
end

local function read_settled(reader)
  local list, seen = {}, {}
  for index = 1, arguments.integer(reader, 'settled') do
    local what = 'settled[' .. (index - 1) .. ']'
    local entry = read_slot(reader, what)
    entry.amount = arguments.integer(reader, what .. '.amount')
    if seen[entry.slot] then
      arguments.reject(what .. ' names the account of another entry')
    end
    seen[entry.slot] = true
    table.insert(list, entry)
  end
  return list
end

local function read_holds(reader, list_of_keys)
  local list, seen = {}, {}
  for index = 1, arguments.integer(reader, 'holds') do
    local what = 'holds[' .. (index - 1) .. ']'
    local entry = {
      key = list_of_keys[FIXED_KEYS + index],
      id = arguments.name(reader, what .. '.id'),
      amount = arguments.integer(reader, what .. '.amount'),
      deadline = arguments.integer(reader, what .. '.deadline') * 1000,
      estimated = arguments.flag(reader, what .. '.estimated'),
      slots = {},
    }
    for slot = 1, arguments.integer(reader, what .. '.slots') do
      table.insert(entry.slots, read_slot(reader, what .. '.slots[' .. (slot - 1) .. ']'))
    end
    if seen[entry.id] or not entry.key then
      arguments.reject(what .. ' is there twice, or its key is not declared')
    end
    seen[entry.id] = true
    table.insert(list, entry)
  end
  return list
end

local function read_versions(reader)
  local list = {}
  for index = 1, arguments.integer(reader, 'snapshot versions') do
    local what = 'snapshot versions[' .. (index - 1) .. ']'
    table.insert(list, {
      org = arguments.name(reader, what .. '.org'),
      version = arguments.integer(reader, what .. '.version'),
    })
  end
  return list
end

local function put_hold(keys, entry, now)
  local held = entry.estimated and 0 or entry.amount
  local slots = {}
  for _, slot in ipairs(entry.slots) do
    account.open(keys, slot.slot, slot.end_unix)
    account.hold(keys, slot.slot, held)
    table.insert(slots, slot.slot)
  end
  local record = {
    state = entry.estimated and 'estimated' or 'held',
    amount = entry.amount,
    deadline = entry.deadline,
    admitted = now,
    window = BUCKETS,
    slots = slots,
    levels = {},
  }
  local own = {hold = entry.key}
  hold.write(own, record, entry.estimated and ESTIMATE_TTL_MS or hold.record_ttl(entry.deadline, now))
  if held > 0 then
    hold.list(keys, entry.id, entry.deadline)
  end
end

local function install(list, args)
  local keys = named_keys(list)
  local reader = arguments.reader(args)
  local wanted = arguments.integer(reader, 'epoch')
  local settled = read_settled(reader)
  local holds = read_holds(reader, list)
  local versions = read_versions(reader)
  arguments.finish(reader)
  local now = clock.ms()
  epoch.require(wanted)
  if redis.call('HEXISTS', keys.money, 'installed') == 1 then
    return {'ALREADY'}
  end
  if (must_exist_until[keys.money] or 0) > now then
    epoch.lose()
  end
  redis.call('DEL', keys.money, keys.deadlines, keys.periods, keys.windows, keys.idle)
  redis.call('HSET', keys.money, 'installed', money.text(now), 'open_holds', '0')
  for _, entry in ipairs(settled) do
    account.open(keys, entry.slot, entry.end_unix)
    account.settle(keys, entry.slot, entry.amount)
  end
  for _, entry in ipairs(holds) do
    put_hold(keys, entry, now)
  end
  for _, entry in ipairs(versions) do
    redis.call('HSET', keys.money, 'version:' .. entry.org, money.text(entry.version))
  end
  root.touch(keys, now)
  return {'INSTALLED'}
end
