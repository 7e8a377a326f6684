-- settle: held → released → estimated → actual, each step at most once and never back. The first
-- step ends the hold on the slots that it was put on, and at the levels that count it; each adds
-- what is new to the settled amounts.

local SETTLEMENT = '^' .. FIVE_LINES .. LINE .. '$'

local function read_settlement(text)
  local wanted, id, stage, amount, tokens, expired_only = match(text, SETTLEMENT)
  if not wanted then
    arguments.reject('the settlement must be six lines')
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

-- The slots that take part: all while the hold is open, those not forgotten yet afterwards. Settled
-- amounts below zero or past what HINCRBY can hold mean that the accounts do not belong to this
-- hold: then nothing here can be trusted. `held` and `settled` are by how much they change.
local function check_slots(of, record, held, settled)
  local values, fields, open = of.values, record.places.fields, record.state == 'held'
  for at = 1, 2 * #record.places.slots, 2 do
    local held_before = values[fields[at]]
    if held_before or open then
      local settled_after = tonumber(values[fields[at + 1]] or 0) + settled
      if settled_after < 0 or settled_after > 9e18 or tonumber(held_before or 0) + held < 0 then
        epoch.lose()
      end
    end
  end
end

local function settle_slots(of, record, held, settled)
  local values, fields, open = of.values, record.places.fields, record.state == 'held'
  for at = 1, 2 * #record.places.slots, 2 do
    if values[fields[at]] or open then
      view.add(of, fields[at], held)
      view.add(of, fields[at + 1], settled)
    end
  end
end

local function check_counts(of, record)
  local values, fields, first = of.values, record.places.fields, 2 * #record.places.slots
  for index = first + 1, first + record.counted do
    if tonumber(values[fields[index]] or 0) < 1 then
      epoch.lose()
    end
  end
end

-- A count of nobody is forgotten: users and runs come and go.
local function count_down(of, record)
  local values, fields, first = of.values, record.places.fields, 2 * #record.places.slots
  for index = first + 1, first + record.counted do
    local left = tonumber(values[fields[index]]) - 1
    view.put(of, fields[index], left > 0 and left)
  end
end

local function end_hold(of, settlement, record)
  count_down(of, record)
  if hold.listed(record) then
    view.unlist(of, settlement.id)
  end
end

local function apply(of, asked)
  local settlement, record, windows = asked.settlement, asked.record, asked.record.places.windows
  local open = record.state == 'held'
  local held = open and -record.amount or 0
  local settled = settlement.amount - (open and 0 or record.amount)
  check_slots(of, record, held, settled)
  if open then
    check_counts(of, record)
    end_hold(of, settlement, record)
  end
  settle_slots(of, record, held, settled)
  if asked.missing ~= 0 then
    for index = 1, #windows do
      window.correct(of, windows[index], record.admitted, asked.missing)
    end
  end
  record.tokens = record.tokens and settlement.tokens or record.tokens
  record.state, record.amount = settlement.stage, settlement.amount
  if record.state == 'actual' then
    record.places_text = ''  -- no later stage needs to know
  end
  hold.write(asked.key, record, record.state == 'actual' and FINAL_TTL_MS or ESTIMATE_TTL_MS)
  return settled
end

local function ask_settlement(of, text, stored)
  local settlement = read_settlement(text)
  epoch.require(settlement.epoch)
  local asked, record = {settlement = settlement}, hold.read(stored)
  if record then
    local fields = record.places.fields
    asked.record, asked.missing = record, missing_tokens(record, settlement.tokens)
    view.want(of, fields, asked.missing ~= 0 and #fields or record.places.without_windows)
  end
  return asked
end

local function decide_settlement(of, asked)
  local settlement, record = asked.settlement, asked.record
  epoch.require(settlement.epoch)
  if not record then
    if call('ZSCORE', of.keys.deadlines, settlement.id) then
      epoch.lose()  -- the record was evicted: its amount would stay held for ever
    end
    return {'NOHOLD'}
  end
  local early = settlement.expired_only and record.state == 'held' and record.deadline > of.now
  if early or hold.RANK[settlement.stage] <= hold.RANK[record.state] then
    return {'ALREADY', record.state, record.amount}
  end
  return {'SETTLED', apply(of, asked)}
end

local settle = calls.of_one_root(ask_settlement, decide_settlement)
