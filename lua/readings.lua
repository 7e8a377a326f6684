-- What is there, changing nothing.

local function add_accounts(reply, seen)
  for index, entry in ipairs(seen.plan.accounts) do
    local held_at = seen.plan.accounts_at + 2 * index - 1
    for _, part in ipairs({
      entry.level.kind, entry.level.id, entry.period.name, entry.period.id,
      -- As Valkey has them: exact at any size.
      seen.found[held_at + 1] or '0', seen.found[held_at] or '0',
      entry.period.soft and money.text(entry.period.soft) or '',
      entry.period.hard and money.text(entry.period.hard) or '',
    }) do
      table.insert(reply, part)
    end
  end
end

-- spend: settled and held of each level in the periods that are current on the server's clock, the
-- windows of the levels that limit a rate, and the open holds of those that limit calls at a time.
local function spend(list, args)
  local keys = named_keys(list)
  local reader = arguments.reader(args)
  local wanted = arguments.integer(reader, 'epoch')
  local window_ms = arguments.window(reader, 'window')
  local now = clock.ms()
  local of = plan.of(args, reader.at + 1, window_ms, now)
  epoch.require(wanted)
  local seen = sight.look(keys, of, '', now)
  local reply = {'SPEND', #of.accounts, #of.windows}
  add_accounts(reply, seen)
  sight.add_windows(reply, seen)
  for index, entry in ipairs(of.counting) do
    table.insert(reply, entry.place)
    table.insert(reply, sight.calls(seen, index))
  end
  return reply
end

-- expired: ids and deadlines (ms) of open holds past their deadline, the oldest first.
local function expired(list, args)
  local keys = named_keys(list)
  local reader = arguments.reader(args)
  local wanted = arguments.integer(reader, 'epoch')
  local limit = arguments.integer(reader, 'limit')
  arguments.finish(reader)
  local now = clock.ms()
  epoch.require(wanted)
  root.read(keys, ROOT_FIELDS, #ROOT_FIELDS, now)
  local reply = call('ZRANGE', keys.deadlines, '-inf', money.text(now), 'BYSCORE',
    'LIMIT', '0', money.text(limit), 'WITHSCORES')
  table.insert(reply, 1, 'EXPIRED')
  return reply
end

local function version()
  return VERSION
end
