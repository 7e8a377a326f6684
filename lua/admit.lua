-- admit: all levels or none. Refusals come in this order: epoch, installed, snapshot version,
-- suspended, windows, soft caps, hard caps. A refusal changes no count.

local function read_request(args)
  local reader = arguments.reader(args)
  local request = {
    epoch = arguments.integer(reader, 'epoch'),
    org = arguments.name(reader, 'org'),
    version = arguments.integer(reader, 'snapshot version'),
    id = arguments.name(reader, 'hold id'),
    amount = arguments.integer(reader, 'hold amount'),
    tokens = arguments.integer(reader, 'tokens'),
    ttl = arguments.integer(reader, 'ttl'),
    window = arguments.integer(reader, 'window'),
    continues = arguments.flag(reader, 'continues'),
  }
  request.levels = levels.read(reader)
  arguments.finish(reader)
  if request.ttl < 1 or request.ttl > 86400 then
    arguments.reject('ttl must be 1 to 86400 seconds')
  end
  if request.window < BUCKETS or request.window % BUCKETS ~= 0 then
    arguments.reject('window must be a multiple of ' .. BUCKETS .. ' ms')
  end
  return request
end

local function refuse(reason, level, limit, used, retry_after, period)
  arguments.answer({
    'REFUSED', reason, level.kind, level.id, money.text(limit), used,
    retry_after and money.text(retry_after) or '', period or '',
  })
end

local function check_suspended(request)
  for _, level in ipairs(request.levels) do
    if level.suspended then
      refuse('SUSPENDED', level, 0, '0', nil)
    end
  end
end

-- Reads the windows of all levels that limit a rate, and refuses where one is full.
local function check_windows(keys, request, requests, tokens, now)
  local limited, refs = {}, {}
  for _, level in ipairs(request.levels) do
    if level.requests or level.tokens then
      table.insert(limited, level)
      table.insert(refs, level.ref)
    end
  end
  local states = window.read(keys, refs, request.window, now)
  local wanted = {requests = requests, tokens = tokens}
  for index, state in ipairs(states) do
    local level = limited[index]
    state.level = level
    for _, measure in ipairs({'requests', 'tokens'}) do
      local limit, amount = level[measure], wanted[measure]
      if limit and amount > 0 and state[measure] + amount > limit then
        refuse(string.upper(measure), level, limit, money.text(state[measure]),
          window.retry_after(state, measure, limit, amount, now))
      end
    end
  end
  return states
end

local function period_left(entry, now)
  return math.max(0, entry.period.end_unix * 1000 - now)
end

-- Soft caps of all accounts come before any hard cap. Running work passes a soft cap.
local function check_caps(keys, accounts, increase, running, now)
  local amounts = account.read(keys, levels.slots(accounts))
  for index, entry in ipairs(accounts) do
    entry.exists = amounts[index].exists
    entry.used = tonumber(amounts[index].settled) + tonumber(amounts[index].held)
    if entry.period.soft and not running and entry.used >= entry.period.soft then
      refuse('SOFTCAP', entry.level, entry.period.soft, money.text(entry.used),
        period_left(entry, now), entry.period.name)
    end
  end
  for _, entry in ipairs(accounts) do
    local cap = entry.period.hard or MAX_INTEGER
    if entry.used + increase > cap then
      refuse('HARDCAP', entry.level, cap, money.text(entry.used),
        period_left(entry, now), entry.period.name)
    end
  end
end

-- Levels whose token windows settle() corrects.
local function token_levels(request)
  local refs = {}
  for _, level in ipairs(request.levels) do
    if level.tokens then
      table.insert(refs, level.ref)
    end
  end
  return refs
end

local function place(keys, request, record, accounts, increase, now)
  for _, entry in ipairs(accounts) do
    if not entry.exists then
      account.open(keys, entry.slot, entry.period.end_unix)
    end
    account.hold(keys, entry.slot, increase)
  end
  if record.amount > 0 then
    hold.list(keys, request.id, record.deadline)
  end
  -- A hold of nothing is a mere memory of its id: nobody sweeps it.
  local ttl = record.amount > 0 and hold.record_ttl(record.deadline, now)
    or record.deadline - now + FINAL_TTL_MS
  hold.write(keys, record, ttl)
end

local function admitted(placing, record, windows)
  local reply = {'ADMITTED', placing, money.text(record.amount), money.text(record.deadline)}
  for _, state in ipairs(windows) do
    table.insert(reply, state.level.kind)
    table.insert(reply, state.level.id)
    table.insert(reply, money.text(state.requests))
    table.insert(reply, money.text(state.tokens))
  end
  return reply
end

local function admit_new(keys, request, now)
  local windows = check_windows(keys, request, 1, request.tokens, now)
  local accounts = levels.current_accounts(request.levels, now)
  check_caps(keys, accounts, request.amount, request.continues, now)
  local record = {
    state = 'held',
    amount = request.amount,
    deadline = now + request.ttl * 1000,
    tokens = request.tokens,
    admitted = now,
    window = request.window,
    slots = levels.slots(accounts),
    levels = token_levels(request),
  }
  window.add(keys, windows, 1, request.tokens, now)
  place(keys, request, record, accounts, request.amount, now)
  return admitted('new', record, windows)
end

local function enlarge(keys, request, record, now)
  local increase = request.amount - record.amount
  local tokens = math.max(0, request.tokens - (record.tokens or request.tokens))
  local windows = check_windows(keys, request, 0, tokens, now)
  local accounts = levels.accounts_of(request.levels, record, now)
  check_caps(keys, accounts, increase, true, now)
  if tokens > 0 then
    window.add(keys, windows, 0, tokens, now)
  end
  record.amount = request.amount
  record.tokens = record.tokens and record.tokens + tokens
  record.deadline = math.max(record.deadline, now + request.ttl * 1000)
  place(keys, request, record, accounts, increase, now)
  return admitted('enlarged', record, windows)
end

local function admit(list, args)
  local keys = named_keys(list)
  local request = read_request(args)
  local now = clock.ms()
  root.open(keys, request.epoch, now)
  root.accept_version(keys, request.org, request.version)
  check_suspended(request)
  local record = hold.read(keys)
  local reply
  if not record then
    reply = admit_new(keys, request, now)
  elseif record.state ~= 'held' then
    refuse('SETTLED', {kind = 'hold', id = request.id}, 0, money.text(record.amount), nil)
  elseif request.amount > record.amount then
    reply = enlarge(keys, request, record, now)
  else
    return admitted('same', record, check_windows(keys, request, 0, 0, now))
  end
  window.prune(keys, now)
  account.prune(keys, now)
  root.touch(keys, now)
  return reply
end
