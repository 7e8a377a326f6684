-- admit: all levels or none. Refusals come in this order: epoch, installed, snapshot version,
-- suspended, windows, calls at a time, soft caps, hard caps. A refusal changes no count. What a
-- level in shadow would refuse is noted, and refuses nothing.

-- Eleven fields, each ended by a newline, then the levels: one argument costs the server less to read
-- than many.
local LINE = '([^\n]*)\n'
local FIVE_LINES = LINE .. LINE .. LINE .. LINE .. LINE
local REQUEST = '^' .. FIVE_LINES .. FIVE_LINES .. LINE .. '()'

local function read_request(text)
  local wanted, org, version, id, amount, least, tokens, ttl, window_ms, continues, digest, levels_at =
    match(text, REQUEST)
  if not wanted then
    arguments.reject('the request must be eleven lines and its levels')
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
    digest = digest,
    levels_at = levels_at,
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

local function check_window(seen, level, state, measure, reason, amount)
  local limit = level[measure]
  if limit and amount > 0 and state[measure] + amount > limit then
    object(seen, level, refusal_of(reason, level, limit, state[measure],
      window.retry_after(state, seen.view.keys, measure, limit, amount, seen.now)))
  end
end

local function check_windows(seen, requests, tokens)
  local entries, states = seen.plan.windows, seen.windows
  for index = 1, #entries do
    local level, state = entries[index].level, states[index]
    check_window(seen, level, state, 'requests', 'REQUESTS', requests)
    check_window(seen, level, state, 'tokens', 'TOKENS', tokens)
  end
end

local function check_calls(seen)
  for _, entry in ipairs(seen.plan.counting) do
    local level, open = entry.level, sight.calls(seen, entry.level)
    if open >= level.calls then
      object(seen, level, refusal_of('CONCURRENCY', level, level.calls, open))
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

-- Puts `increase` more on the hold's accounts, and writes its record. `opens`: it was not among the
-- open ones before.
local function place(asked, seen, record, increase, opens)
  local of, values, accounts = seen.view, seen.values, seen.plan.accounts
  for index = 1, #accounts do
    local entry = accounts[index]
    local held = values[entry.held]
    view.put(of, entry.held, tonumber(held or 0) + increase)
    if not held then
      local due = of.due
      due[#due + 1], due[#due + 2] = account.due(entry.slot, entry.period.end_unix)
    end
  end
  if hold.listed(record) then
    view.list(of, asked.request.id, record.deadline, opens)
  end
  hold.write(asked.key, record, hold.open_ttl(record, of.now))
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

local function admit_new(asked, seen)
  local request, counting = asked.request, seen.plan.counting
  check_windows(seen, 1, request.tokens)
  check_calls(seen)
  if not request.continues then
    check_soft_caps(seen)
  end
  local amount = increase_within_caps(seen, request.amount, request.least)
  local record = {
    state = 'held',
    amount = amount,
    deadline = seen.now + request.ttl * 1000,
    tokens = request.tokens,
    admitted = seen.now,
    counted = #counting,
    places_text = plan.places_text(seen.plan),
  }
  window.add(seen.view, seen.windows, #seen.plan.windows, 1, request.tokens)
  for index = 1, #counting do
    view.add(seen.view, counting[index].level.open, 1)
  end
  place(asked, seen, record, amount, true)
  return admitted(seen, 'new', record)
end

-- Where what stands is enough, no lack of room refuses: it stays as it is.
local function enlarge(asked, seen)
  local request, record = asked.request, asked.record
  local tokens = math.max(0, request.tokens - (record.tokens or request.tokens))
  check_windows(seen, 0, tokens)
  local least = request.least > record.amount and request.least - record.amount or -math.huge
  local increase = increase_within_caps(seen, request.amount - record.amount, least)
  if increase <= 0 then
    return admitted(seen, 'same', record)
  end
  local opens = not hold.listed(record)
  if tokens > 0 then
    window.add(seen.view, seen.windows, #seen.plan.windows, 0, tokens)
  end
  record.amount = record.amount + increase
  record.tokens = record.tokens and record.tokens + tokens
  record.deadline = math.max(record.deadline, seen.now + request.ttl * 1000)
  place(asked, seen, record, increase, opens)
  return admitted(seen, 'enlarged', record)
end

-- The plan for enlarging the hold: on the accounts that it stands on.
local function plan_of_hold(of, record)
  local accounts = levels.accounts_of(of.levels, of.accounts, record.places.slots)
  return accounts == of.accounts and of or plan.make(of.levels, accounts, of.window)
end

local function ask_admission(of, text, stored)
  local request = read_request(text)
  local of_levels = plan.of(request.digest, text, request.levels_at, request.window, of.now)
  epoch.require(request.epoch)
  local record = hold.read(stored)
  local enlarges = record and record.state == 'held' and request.amount > record.amount
  local asked = {
    request = request, record = record, enlarges = enlarges,
    plan = enlarges and plan_of_hold(of_levels, record) or of_levels,
  }
  sight.want(of, asked.plan, request.org)
  return asked
end

local function decide_admission(of, asked)
  local request, record = asked.request, asked.record
  epoch.require(request.epoch)
  view.accept_version(of, request.org, request.version)
  local seen = sight.look(of, asked.plan)
  check_suspended(seen)
  if not record then
    return admit_new(asked, seen)
  elseif asked.enlarges then
    return enlarge(asked, seen)
  elseif record.state == 'held' then
    return admitted(seen, 'same', record)
  end
  refuse(seen, refusal_of('SETTLED', {kind = 'hold', id = request.id}, 0, record.amount))
end

local admit = calls.of_one_root(ask_admission, decide_admission)
