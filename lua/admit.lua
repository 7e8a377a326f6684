-- admit: all levels or none. Refusals come in this order: epoch, installed, snapshot version,
-- suspended, windows, calls at a time, soft caps, hard caps. A refusal changes no count. What a
-- level in shadow would refuse is noted, and refuses nothing.

-- Ten fields, each ended by a newline: one argument costs the server less to read than ten.
local LINE = '([^\n]*)\n'
local FIVE_LINES = LINE .. LINE .. LINE .. LINE .. LINE
local REQUEST = '^' .. FIVE_LINES .. FIVE_LINES .. '$'

local function read_request(text)
  local wanted, org, version, id, amount, least, tokens, ttl, window_ms, continues =
    match(text or '', REQUEST)
  if not wanted then
    arguments.reject('the request must be ten lines')
  end
  local request = {
    epoch = checked.integer(wanted, 'epoch'),
    org = checked.name(org, 'org'),
    version = checked.integer(version, 'snapshot version'),
    id = checked.name(id, 'hold id'),
    amount = checked.integer(amount, 'hold amount'),
    least = checked.integer(least, 'least amount'),
    tokens = checked.integer(tokens, 'tokens'),
    ttl = checked.integer(ttl, 'ttl'),
    window = checked.window(window_ms, 'window'),
    continues = checked.flag(continues, 'continues'),
  }
  if request.least > request.amount then
    arguments.reject('least amount must not be above the hold amount')
  end
  if request.ttl < 1 or request.ttl > 86400 then
    arguments.reject('ttl must be 1 to 86400 seconds')
  end
  return request
end

-- `retry_after` is nil where it is not known, or where waiting does not help.
local function refusal_of(reason, level, limit, used, retry_after, period)
  return {
    reason, level.kind, level.id, money.text(limit), money.text(used),
    retry_after and money.text(retry_after) or '', period or '',
  }
end

-- Ends the call.
local function refuse(seen, refusal)
  table.insert(refusal, 1, 'REFUSED')
  arguments.answer(sight.add_windows(refusal, seen))
end

-- A limit of the level stands against the request: ends the call, unless the level is in shadow.
local function object(seen, level, refusal)
  if level.shadow then
    sight.note(seen, refusal)
  else
    refuse(seen, refusal)
  end
end

local function check_suspended(seen)
  local level = seen.plan.suspended
  if level then
    local refusal = refusal_of('SUSPENDED', level, 0, 0)
    table.insert(refusal, 1, 'REFUSED')
    arguments.answer(refusal)
  end
end

local function check_window(seen, state, measure, reason, amount)
  local level = state.level
  local limit = level[measure]
  if limit and amount > 0 and state[measure] + amount > limit then
    object(seen, level, refusal_of(reason, level, limit, state[measure],
      window.retry_after(state, seen.keys, measure, limit, amount, seen.now)))
  end
end

local function check_windows(seen, requests, tokens)
  local states = seen.plan.windows
  for index = 1, #states do
    check_window(seen, states[index], 'requests', 'REQUESTS', requests)
    check_window(seen, states[index], 'tokens', 'TOKENS', tokens)
  end
end

local function check_calls(seen)
  for index, entry in ipairs(seen.plan.counting) do
    local level, calls = entry.level, sight.calls(seen, index)
    if calls >= level.calls then
      object(seen, level, refusal_of('CONCURRENCY', level, level.calls, calls))
    end
  end
end

local function refusal_by_cap(seen, reason, index, cap)
  local entry = seen.plan.accounts[index]
  return refusal_of(reason, entry.level, cap, seen.used[index],
    math.max(0, entry.period.end_unix * 1000 - seen.now), entry.period.name)
end

-- Soft caps of all accounts come before any hard cap. Running work passes them.
local function check_soft_caps(seen)
  local accounts = seen.plan.accounts
  for index = 1, #accounts do
    local soft = accounts[index].period.soft
    if soft and seen.used[index] >= soft then
      object(seen, accounts[index].level, refusal_by_cap(seen, 'SOFTCAP', index, soft))
    end
  end
end

-- The room under all hard caps, and the account that has the least, with its cap. A level without a
-- cap, or in shadow, still holds no more than the largest amount, so that sums stay exact; without
-- accounts there is as much as anybody can ask for.
local function room(seen, least)
  local smallest, narrowest, narrowest_cap = MAX_INTEGER, nil, nil
  local accounts = seen.plan.accounts
  for index = 1, #accounts do
    local entry = accounts[index]
    local cap = entry.period.hard or MAX_INTEGER
    if entry.level.shadow then
      if seen.used[index] + least > cap then
        sight.note(seen, refusal_by_cap(seen, 'HARDCAP', index, cap))
      end
      cap = MAX_INTEGER
    end
    local left = cap - seen.used[index]
    if left < smallest then
      smallest, narrowest, narrowest_cap = left, index, cap
    end
  end
  return smallest, narrowest, narrowest_cap
end

-- How much more to hold: `wanted`, or what there is, from `least` on. Refused by the level that has
-- the least room.
local function increase_within_caps(seen, wanted, least)
  local left, narrowest, cap = room(seen, least)
  if left < least then
    refuse(seen, refusal_by_cap(seen, 'HARDCAP', narrowest, cap))
  end
  return math.min(wanted, left)
end

-- Writes all that has changed: beside `writes`, of which there are `count`, the accounts. `opens`: the
-- hold was not among the open ones before.
local function place(request, seen, record, increase, opens, writes, count, due)
  local accounts, found, at, keys = seen.plan.accounts, seen.found, seen.plan.accounts_at, seen.keys
  for index = 1, #accounts do
    local entry, held = accounts[index], found[at + 1]
    writes[count + 1], writes[count + 2] = entry.held, money.text(tonumber(held or 0) + increase)
    count, at = count + 2, at + 2
    if not held then
      due[#due + 1], due[#due + 2] = account.due(entry.slot, entry.period.end_unix)
    end
  end
  if hold.listed(record) then
    local open_holds = opens and tonumber(found[2])
    hold.list(keys, request.id, record.deadline, open_holds)
    if opens then
      writes[count + 1], writes[count + 2] = 'open_holds', money.text(open_holds + 1)
      count = count + 2
    end
  end
  root.write(keys, writes, count)
  root.forget_later(keys, due)
  hold.write(keys, record, hold.open_ttl(record, seen.now))
end

local function admitted(seen, placing, record)
  local reply = {'ADMITTED', placing, record.amount, record.deadline, #seen.plan.windows}
  sight.add_windows(reply, seen)
  for _, refusal in ipairs(seen.shadowed) do
    for _, part in ipairs(refusal) do
      table.insert(reply, part)
    end
  end
  return reply
end

-- Used again by each call: it is written up to its count alone.
local writes = {}

local function admit_new(request, seen)
  check_windows(seen, 1, request.tokens)
  check_calls(seen)
  if not request.continues then
    check_soft_caps(seen)
  end
  local now, due = seen.now, {}
  local amount = increase_within_caps(seen, request.amount, request.least)
  local counting = seen.plan.counting
  local record = {
    state = 'held',
    amount = amount,
    deadline = now + request.ttl * 1000,
    tokens = request.tokens,
    admitted = now,
    counted = #counting,
    places_text = plan.places_text(seen.plan),
  }
  local count = window.add(seen.plan.windows, 1, request.tokens, writes, 0, due)
  for index = 1, #counting do
    writes[count + 1], writes[count + 2] = counting[index].field, money.text(sight.calls(seen, index) + 1)
    count = count + 2
  end
  place(request, seen, record, amount, true, writes, count, due)
  return admitted(seen, 'new', record)
end

-- Where what stands is enough, no lack of room refuses: it stays as it is.
local function enlarge(request, seen, record)
  local now, due, count = seen.now, {}, 0
  local tokens = math.max(0, request.tokens - (record.tokens or request.tokens))
  check_windows(seen, 0, tokens)
  local least = request.least > record.amount and request.least - record.amount or -math.huge
  local increase = increase_within_caps(seen, request.amount - record.amount, least)
  if increase <= 0 then
    return admitted(seen, 'same', record)
  end
  local opens = not hold.listed(record)
  if tokens > 0 then
    count = window.add(seen.plan.windows, 0, tokens, writes, 0, due)
  end
  record.amount = record.amount + increase
  record.tokens = record.tokens and record.tokens + tokens
  record.deadline = math.max(record.deadline, now + request.ttl * 1000)
  place(request, seen, record, increase, opens, writes, count, due)
  return admitted(seen, 'enlarged', record)
end

-- The plan for enlarging the hold: on the accounts that it stands on.
local function plan_of_hold(of, record)
  local accounts = levels.accounts_of(of.levels, of.accounts, record.places.slots)
  return accounts == of.accounts and of or plan.make(of.levels, accounts, of.window)
end

local function admit(list, args)
  local keys = named_keys(list)
  local request = read_request(args[1])
  local now = clock.ms()
  local of = plan.of(args, 2, request.window, now)
  epoch.require(request.epoch)
  local record = hold.read(keys)
  local larger = record and record.state == 'held' and request.amount > record.amount
  local seen = sight.look(keys, larger and plan_of_hold(of, record) or of, request.org, now)
  root.accept_version(keys, request.org, seen.version, request.version)
  check_suspended(seen)
  local reply
  if not record then
    reply = admit_new(request, seen)
  elseif larger then
    reply = enlarge(request, seen, record)
  elseif record.state == 'held' then
    return admitted(seen, 'same', record)
  else
    refuse(seen, refusal_of('SETTLED', {kind = 'hold', id = request.id}, 0, record.amount))
  end
  root.touch(keys, now)
  return reply
end
