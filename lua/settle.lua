-- settle: held → released → estimated → actual, each step at most once and never back. The first
-- step ends the hold on the slots that it was put on, and at the levels that count it; each adds
-- what is new to the settled amounts.

local function read_settlement(args)
  local reader = arguments.reader(args)
  local settlement = {
    epoch = arguments.integer(reader, 'epoch'),
    id = arguments.name(reader, 'hold id'),
    stage = arguments.word(reader, 'stage'),
    amount = arguments.integer(reader, 'amount'),
    tokens = arguments.optional_integer(reader, 'tokens'),
    expired_only = arguments.flag(reader, 'expired only'),
  }
  arguments.finish(reader)
  if settlement.stage == 'held' or not hold.RANK[settlement.stage] then
    arguments.reject('stage must be released, estimated or actual')
  end
  if settlement.stage == 'released' and settlement.amount ~= 0 then
    arguments.reject('amount must be 0 where stage is released: no call was made')
  end
  return settlement
end

-- By how many tokens the windows are off; 0 where nothing is known of them.
local function missing_tokens(record, tokens)
  if not tokens or not record.tokens or #record.levels == 0 then
    return 0
  end
  return tokens - record.tokens
end

-- What is known of all that the hold stands on, read in one command: first the slots, two fields
-- each, then the counting levels, then the windows.
local function read_places(keys, record, missing, now)
  local fields = root.fields()
  local at = #fields
  for _, slot in ipairs(record.slots) do
    fields[at + 1], fields[at + 2] = 'held:' .. slot, 'settled:' .. slot
    at = at + 2
  end
  for _, ref in ipairs(record.counted) do
    at = at + 1
    fields[at] = 'open:' .. ref
  end
  if missing ~= 0 then
    for _, ref in ipairs(record.levels) do
      at = at + 1
      fields[at] = window.field_of({ref = ref}, record.window)
    end
  end
  return fields, root.read(keys, fields, now)
end

-- Beyond this a double is no longer exact, and Valkey adds.
local function put(keys, writes, field, before, change)
  if before + change > MAX_INTEGER or before > MAX_INTEGER then
    money.add(keys.money, field, change)
  elseif change ~= 0 then
    table.insert(writes, field)
    table.insert(writes, money.text(before + change))
  end
end

-- The slots that take part: all while the hold is open, those not forgotten yet afterwards. Settled
-- amounts below zero or past what HINCRBY can hold mean that the accounts do not belong to this
-- hold: then nothing here can be trusted.
local function check_slots(record, found, first, settled, held)
  for index = 1, #record.slots do
    local held_before = tonumber(found[first + 2 * index - 2] or 0)
    local settled_before = tonumber(found[first + 2 * index - 1] or 0)
    if found[first + 2 * index - 2] or record.state == 'held' then
      local settled_after = settled_before + settled
      if settled_after < 0 or settled_after > 9e18 or held_before + held < 0 then
        epoch.lose()
      end
    end
  end
end

local function settle_slots(keys, record, fields, found, first, settled, held, writes)
  for index = 1, #record.slots do
    local at = first + 2 * index - 2
    if found[at] or record.state == 'held' then
      put(keys, writes, fields[at], tonumber(found[at] or 0), held)
      put(keys, writes, fields[at + 1], tonumber(found[at + 1] or 0), settled)
    end
  end
end

-- A count of nobody is forgotten: users and runs come and go.
local function count_down(record, fields, found, first, writes)
  local gone = {}
  for index = first, first + #record.counted - 1 do
    if found[index] == '1' then
      table.insert(gone, fields[index])
    else
      table.insert(writes, fields[index])
      table.insert(writes, money.text(tonumber(found[index]) - 1))
    end
  end
  return gone
end

local function check_counts(record, found, first)
  for index = first, first + #record.counted - 1 do
    if tonumber(found[index] or 0) < 1 then
      epoch.lose()
    end
  end
end

local function correct_windows(record, missing, fields, found, first, now, writes)
  for index = first, first + #record.levels - 1 do
    local state = window.parse(found[index], fields[index], record.window, now)
    if window.correct(state, record.admitted, missing) then
      table.insert(writes, state.field)
      table.insert(writes, state.stored)
    end
  end
end

local function apply(keys, settlement, record, missing, fields, found, now)
  local open = record.state == 'held'
  local settled = settlement.amount - (open and 0 or record.amount)
  local held = open and -record.amount or 0
  local first_slot = #root.fields() + 1
  local first_count = first_slot + 2 * #record.slots
  local first_window = first_count + #record.counted
  local writes, gone = {}, {}
  check_slots(record, found, first_slot, settled, held)
  if open then
    check_counts(record, found, first_count)
    gone = count_down(record, fields, found, first_count, writes)
    if hold.listed(record) then
      hold.unlist(keys, settlement.id, tonumber(found[2]), writes)
    end
  end
  settle_slots(keys, record, fields, found, first_slot, settled, held, writes)
  if missing ~= 0 then
    correct_windows(record, missing, fields, found, first_window, now, writes)
  end
  root.write(keys, writes)
  if #gone > 0 then
    redis.call('HDEL', keys.money, unpack(gone))
  end
  record.tokens = record.tokens and settlement.tokens or record.tokens
  record.state = settlement.stage
  record.amount = settlement.amount
  hold.write(keys, record, record.state == 'actual' and FINAL_TTL_MS or ESTIMATE_TTL_MS)
  root.touch(keys, now)
  return settled
end

local function settle(list, args)
  local keys = named_keys(list)
  local settlement = read_settlement(args)
  local now = clock.ms()
  epoch.require(settlement.epoch)
  local record = hold.read(keys)
  if not record then
    root.read(keys, root.fields(), now)
    if redis.call('ZSCORE', keys.deadlines, settlement.id) then
      epoch.lose()  -- the record was evicted: its amount would stay held for ever
    end
    return {'NOHOLD'}
  end
  local missing = missing_tokens(record, settlement.tokens)
  local fields, found = read_places(keys, record, missing, now)
  local early = settlement.expired_only and record.state == 'held' and record.deadline > now
  if early or hold.RANK[settlement.stage] <= hold.RANK[record.state] then
    return {'ALREADY', record.state, money.text(record.amount)}
  end
  return {'SETTLED', money.text(apply(keys, settlement, record, missing, fields, found, now))}
end
