-- settle: held → released → estimated → actual, each step at most once and never back. The first
-- step ends the hold on the slots that it was put on, and at the levels that count it; each adds
-- what is new to the settled amounts.

local SETTLEMENT = '^' .. FIVE_LINES .. LINE .. '$'

local function read_settlement(args)
  local wanted, id, stage, amount, tokens, expired_only = match(args[1] or '', SETTLEMENT)
  if not wanted or #args > 1 then
    arguments.reject('the settlement must be one argument of six lines')
  end
  local settlement = {
    epoch = checked.integer(wanted, 'epoch'),
    id = checked.name(id, 'hold id'),
    stage = stage,
    amount = checked.integer(amount, 'amount'),
    tokens = checked.optional_integer(tokens, 'tokens'),
    expired_only = checked.flag(expired_only, 'expired only'),
  }
  if stage == 'held' or not hold.RANK[stage] then
    arguments.reject('stage must be released, estimated or actual')
  end
  if stage == 'released' and settlement.amount ~= 0 then
    arguments.reject('amount must be 0 where stage is released: no call was made')
  end
  return settlement
end

-- By how many tokens the windows are off; 0 where nothing is known of them.
local function missing_tokens(record, tokens)
  if not tokens or not record.tokens or #record.places.windows == 0 then
    return 0
  end
  return tokens - record.tokens
end

-- Used again by each call: they are read up to their counts alone.
local writes, write_count = {}, 0
local additions = {}

-- Beyond this a double is no longer exact, and Valkey adds, once all is checked.
local function put(field, before, change)
  if before + change > MAX_INTEGER or before > MAX_INTEGER then
    additions[#additions + 1] = {field, change}
  elseif change ~= 0 then
    writes[write_count + 1], writes[write_count + 2] = field, money.text(before + change)
    write_count = write_count + 2
  end
end

-- The slots that take part: all while the hold is open, those not forgotten yet afterwards. Settled
-- amounts below zero or past what HINCRBY can hold mean that the accounts do not belong to this
-- hold: then nothing here can be trusted.
local function settle_slots(record, found, settled, held)
  local fields, open = record.places.fields, record.state == 'held'
  local at = #ROOT_FIELDS + 1
  for _ = 1, #record.places.slots do
    if found[at] or open then
      local held_before, settled_before = tonumber(found[at] or 0), tonumber(found[at + 1] or 0)
      local settled_after = settled_before + settled
      if settled_after < 0 or settled_after > 9e18 or held_before + held < 0 then
        epoch.lose()
      end
      put(fields[at], held_before, held)
      put(fields[at + 1], settled_before, settled)
    end
    at = at + 2
  end
end

-- A count of nobody is forgotten: users and runs come and go.
local function count_down(record, found)
  local gone, fields = nil, record.places.fields
  local first = #ROOT_FIELDS + 2 * #record.places.slots + 1
  for index = first, first + record.counted - 1 do
    local calls = tonumber(found[index] or 0)
    if calls < 1 then
      epoch.lose()
    end
    if calls == 1 then
      gone = gone or {}
      gone[#gone + 1] = fields[index]
    else
      put(fields[index], calls, -1)
    end
  end
  return gone
end

local function correct_windows(keys, record, missing, found)
  local windows, before = record.places.windows, record.places.without_windows
  for index = 1, #windows do
    write_count = window.correct(windows[index], keys, found[before + index], record.admitted,
      missing, writes, write_count)
  end
end

local function apply(keys, settlement, record, missing, found, now)
  local open = record.state == 'held'
  local settled = settlement.amount - (open and 0 or record.amount)
  local gone
  additions, write_count = {}, 0
  settle_slots(record, found, settled, open and -record.amount or 0)
  if open then
    gone = count_down(record, found)
    if hold.listed(record) then
      put('open_holds', tonumber(found[2]), -1)
      hold.unlist(keys, settlement.id)
    end
  end
  if missing ~= 0 then
    correct_windows(keys, record, missing, found)
  end
  root.write(keys, writes, write_count)
  for _, addition in ipairs(additions) do
    money.add(keys.money, addition[1], addition[2])
  end
  if gone then
    call('HDEL', keys.money, unpack(gone))
  end
  record.tokens = record.tokens and settlement.tokens or record.tokens
  record.state, record.amount = settlement.stage, settlement.amount
  if record.state == 'actual' then
    record.places_text = ''  -- no later stage needs to know
  end
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
    root.read(keys, ROOT_FIELDS, #ROOT_FIELDS, now)
    if call('ZSCORE', keys.deadlines, settlement.id) then
      epoch.lose()  -- the record was evicted: its amount would stay held for ever
    end
    return {'NOHOLD'}
  end
  local missing = missing_tokens(record, settlement.tokens)
  local fields = record.places.fields
  local found = root.read(keys, fields, missing ~= 0 and #fields or record.places.without_windows, now)
  local early = settlement.expired_only and record.state == 'held' and record.deadline > now
  if early or hold.RANK[settlement.stage] <= hold.RANK[record.state] then
    return {'ALREADY', record.state, record.amount}
  end
  return {'SETTLED', apply(keys, settlement, record, missing, found, now)}
end
