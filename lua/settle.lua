-- settle: held → released → estimated → actual, each step at most once and never back. The first
-- step ends the hold on the slots that it was put on; each adds what is new to the settled amounts.

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

-- The slots that take part: all while the hold is open, those not pruned yet afterwards. Settled
-- amounts below zero or past what HINCRBY can hold mean that the accounts do not belong to this
-- hold: then nothing here can be trusted.
local function slots_to_settle(keys, record, settled, held)
  local slots = {}
  local amounts = account.read(keys, record.slots)
  for index, slot in ipairs(record.slots) do
    local settled_after = tonumber(amounts[index].settled) + settled
    local held_after = tonumber(amounts[index].held) + held
    if amounts[index].exists or record.state == 'held' then
      if settled_after < 0 or settled_after > 9e18 or held_after < 0 then
        epoch.lose()
      end
      table.insert(slots, slot)
    end
  end
  return slots
end

local function correct_tokens(keys, record, tokens, now)
  if not tokens or not record.tokens or tokens == record.tokens then
    return
  end
  local difference = tokens - record.tokens
  window.correct(keys, record.levels, record.window, record.admitted, difference, now)
  record.tokens = tokens
end

local function apply(keys, settlement, record, settled, now)
  local was_held = record.state == 'held'
  local held = was_held and -record.amount or 0
  for _, slot in ipairs(slots_to_settle(keys, record, settled, held)) do
    account.settle(keys, slot, settled)
    account.hold(keys, slot, held)
  end
  if was_held then
    hold.unlist(keys, settlement.id)
  end
  correct_tokens(keys, record, settlement.tokens, now)
  record.state = settlement.stage
  record.amount = settlement.amount
  hold.write(keys, record, record.state == 'actual' and FINAL_TTL_MS or ESTIMATE_TTL_MS)
  root.touch(keys, now)
end

local function settle(list, args)
  local keys = named_keys(list)
  local settlement = read_settlement(args)
  local now = clock.ms()
  root.open(keys, settlement.epoch, now)
  local record = hold.read(keys)
  local listed = redis.call('ZSCORE', keys.deadlines, settlement.id)
  if not record then
    if listed then
      epoch.lose()  -- the record was evicted: its amount would stay held for ever
    end
    return {'NOHOLD'}
  end
  local early = settlement.expired_only and record.state == 'held' and record.deadline > now
  if early or hold.RANK[settlement.stage] <= hold.RANK[record.state] then
    return {'ALREADY', record.state, money.text(record.amount)}
  end
  local settled = settlement.amount - (record.state == 'held' and 0 or record.amount)
  apply(keys, settlement, record, settled, now)
  return {'SETTLED', money.text(settled)}
end
