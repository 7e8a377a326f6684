-- admit: all levels or none. Refusals come in this order: epoch, installed, snapshot version,
-- suspended, windows, calls at a time, soft caps, hard caps. A refusal changes no count. What a
-- level in shadow would refuse is noted, and refuses nothing.

local function read_request(args)
  local reader = arguments.reader(args)
  local request = {
    epoch = arguments.integer(reader, 'epoch'),
    org = arguments.name(reader, 'org'),
    version = arguments.integer(reader, 'snapshot version'),
    id = arguments.name(reader, 'hold id'),
    amount = arguments.integer(reader, 'hold amount'),
    least = arguments.integer(reader, 'least amount'),
    tokens = arguments.integer(reader, 'tokens'),
    ttl = arguments.integer(reader, 'ttl'),
    window = arguments.window(reader),
    continues = arguments.flag(reader, 'continues'),
  }
  request.levels = levels.read(reader)
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
local function refuse(request, seen, refusal)
  table.insert(refusal, 1, 'REFUSED')
  arguments.answer(sight.add_windows(refusal, request, seen.windows, seen.now))
end

-- A limit of the level stands against the request: ends the call, unless the level is in shadow.
local function object(request, seen, level, refusal)
  if level.shadow then
    table.insert(seen.shadowed, refusal)
  else
    refuse(request, seen, refusal)
  end
end

local function check_suspended(request, seen)
  for _, level in ipairs(request.levels) do
    if level.suspended then
      seen.windows = {}
      refuse(request, seen, refusal_of('SUSPENDED', level, 0, 0))
    end
  end
end

local function check_windows(request, seen, requests, tokens)
  for _, state in ipairs(seen.windows) do
    local level = state.level
    if level.requests and requests > 0 and state.requests + requests > level.requests then
      object(request, seen, level, refusal_of('REQUESTS', level, level.requests, state.requests,
        window.retry_after(state, 'requests', level.requests, requests, seen.now)))
    end
    if level.tokens and tokens > 0 and state.tokens + tokens > level.tokens then
      object(request, seen, level, refusal_of('TOKENS', level, level.tokens, state.tokens,
        window.retry_after(state, 'tokens', level.tokens, tokens, seen.now)))
    end
  end
end

local function check_calls(request, seen)
  for index, level in ipairs(seen.counting) do
    if seen.calls[index] >= level.calls then
      object(request, seen, level,
        refusal_of('CONCURRENCY', level, level.calls, seen.calls[index]))
    end
  end
end

local function refusal_by_cap(seen, reason, index, cap)
  local entry = seen.accounts[index]
  return refusal_of(reason, entry.level, cap, seen.used[index],
    math.max(0, entry.period.end_unix * 1000 - seen.now), entry.period.name)
end

-- Soft caps of all accounts come before any hard cap. Running work passes them.
local function check_soft_caps(request, seen)
  for index = 1, #seen.accounts do
    local entry = seen.accounts[index]
    local soft = entry.period.soft
    if soft and seen.used[index] >= soft then
      object(request, seen, entry.level, refusal_by_cap(seen, 'SOFTCAP', index, soft))
    end
  end
end

-- The room under all hard caps, and the account that has the least, with its cap. A level without a
-- cap, or in shadow, still holds no more than the largest amount, so that sums stay exact; without
-- accounts there is as much as anybody can ask for.
local function room(seen, least)
  local smallest, narrowest, narrowest_cap = MAX_INTEGER, nil, nil
  for index = 1, #seen.accounts do
    local entry = seen.accounts[index]
    local cap = entry.period.hard or MAX_INTEGER
    if entry.level.shadow then
      if seen.used[index] + least > cap then
        table.insert(seen.shadowed, refusal_by_cap(seen, 'HARDCAP', index, cap))
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
local function increase_within_caps(request, seen, wanted, least)
  local left, narrowest, cap = room(seen, least)
  if left < least then
    refuse(request, seen, refusal_by_cap(seen, 'HARDCAP', narrowest, cap))
  end
  return math.min(wanted, left)
end

-- Levels whose token windows settle() corrects.
local function token_level(level)
  return level.tokens and level.ref
end

local function counting_level(level)
  return level.calls and level.ref
end

-- Writes all that has changed. `opens`: the hold was not among the open ones before.
local function place(keys, request, seen, record, increase, opens, writes, due)
  local at = #writes
  for index = 1, #seen.accounts do
    local entry = seen.accounts[index]
    writes[at + 1], writes[at + 2] = entry.held, money.text((seen.held[index] or 0) + increase)
    at = at + 2
    if not seen.held[index] then
      local due_at, member = account.due(entry.slot, entry.period.end_unix)
      table.insert(due, due_at)
      table.insert(due, member)
    end
  end
  if hold.listed(record) then
    hold.list(keys, request.id, record.deadline, opens and seen.open_holds, writes)
  end
  root.write(keys, writes)
  root.forget_later(keys, due)
  hold.write(keys, record, hold.open_ttl(record, seen.now))
end

local function admitted(request, seen, placing, record)
  local reply = {
    'ADMITTED', placing, money.text(record.amount), money.text(record.deadline), #seen.windows,
  }
  sight.add_windows(reply, request, seen.windows, seen.now)
  for _, refusal in ipairs(seen.shadowed) do
    for _, part in ipairs(refusal) do
      table.insert(reply, part)
    end
  end
  return reply
end

local function admit_new(keys, request, seen)
  check_windows(request, seen, 1, request.tokens)
  check_calls(request, seen)
  if not request.continues then
    check_soft_caps(request, seen)
  end
  local now, writes, due = seen.now, {}, {}
  local amount = increase_within_caps(request, seen, request.amount, request.least)
  local record = {
    state = 'held',
    amount = amount,
    deadline = now + request.ttl * 1000,
    tokens = request.tokens,
    admitted = now,
    window = request.window,
    slots = levels.slots(seen.accounts),
    counted = levels.each(request.levels, counting_level),
    levels = levels.each(request.levels, token_level),
  }
  window.add(seen.windows, 1, request.tokens, now, writes, due)
  for index, level in ipairs(seen.counting) do
    table.insert(writes, level.open)
    table.insert(writes, money.text(seen.calls[index] + 1))
  end
  place(keys, request, seen, record, amount, true, writes, due)
  return admitted(request, seen, 'new', record)
end

-- Where what stands is enough, no lack of room refuses: it stays as it is.
local function enlarge(keys, request, seen, record)
  local now, writes, due = seen.now, {}, {}
  local tokens = math.max(0, request.tokens - (record.tokens or request.tokens))
  check_windows(request, seen, 0, tokens)
  local least = request.least > record.amount and request.least - record.amount or -math.huge
  local increase = increase_within_caps(request, seen, request.amount - record.amount, least)
  if increase <= 0 then
    return admitted(request, seen, 'same', record)
  end
  local opens = not hold.listed(record)
  if tokens > 0 then
    window.add(seen.windows, 0, tokens, now, writes, due)
  end
  record.amount = record.amount + increase
  record.tokens = record.tokens and record.tokens + tokens
  record.deadline = math.max(record.deadline, now + request.ttl * 1000)
  place(keys, request, seen, record, increase, opens, writes, due)
  return admitted(request, seen, 'enlarged', record)
end

local function admit(list, args)
  local keys = named_keys(list)
  local request = read_request(args)
  local now = clock.ms()
  epoch.require(request.epoch)
  local record = hold.read(keys)
  local larger = record and record.state == 'held' and request.amount > record.amount
  local accounts = larger and levels.accounts_of(request.levels, record, now)
    or record and {} or levels.current_accounts(request.levels, now)
  local seen = sight.look(keys, request, accounts, now)
  root.accept_version(keys, request.org, seen.version, request.version)
  check_suspended(request, seen)
  local reply
  if not record then
    reply = admit_new(keys, request, seen)
  elseif larger then
    reply = enlarge(keys, request, seen, record)
  elseif record.state == 'held' then
    return admitted(request, seen, 'same', record)
  else
    local settled = {kind = 'hold', id = request.id}
    refuse(request, seen, refusal_of('SETTLED', settled, 0, record.amount))
  end
  root.touch(keys, now)
  return reply
end
