-- What is there, changing nothing.

local function add_accounts(reply, seen)
  for _, entry in ipairs(seen.plan.accounts) do
    for _, part in ipairs({
      entry.level.kind, entry.level.id, entry.period.name, entry.period.id,
      -- As Valkey has them: exact at any size.
      seen.values[entry.settled] or '0', seen.values[entry.held] or '0',
      entry.period.soft and money.text(entry.period.soft) or '',
      entry.period.hard and money.text(entry.period.hard) or '',
    }) do
      table.insert(reply, part)
    end
  end
end

-- A line with the digest, and the place of the levels after it.
local LEVELS = '^' .. LINE .. '()'

-- spend: settled and held of each level in the periods that are current on the server's clock, the
-- windows of the levels that limit a rate, and the open holds of those that limit calls at a time.
local function spend(list, args)
  local reader = arguments.reader(args)
  local of = view.open(named_keys(list), clock.ms())
  local wanted = arguments.integer(reader, 'epoch')
  local window_ms = arguments.window(reader, 'window')
  local levels_text = arguments.text(reader, 'levels')
  local digest, levels_at = match(levels_text, LEVELS)
  if not digest then
    arguments.reject('levels must be a digest and the levels')
  end
  local of_levels = plan.of(digest, levels_text, levels_at, window_ms, of.now)
  arguments.finish(reader)
  epoch.require(wanted)
  sight.want(of, of_levels, '')
  view.read(of)
  local seen = sight.look(of, of_levels)
  local reply = {'SPEND', #of_levels.accounts, #of_levels.windows}
  add_accounts(reply, seen)
  sight.add_windows(reply, seen)
  for _, entry in ipairs(of_levels.counting) do
    table.insert(reply, entry.place)
    table.insert(reply, sight.calls(seen, entry.level))
  end
  return reply
end

-- expired: ids and deadlines (ms) of open holds past their deadline, the oldest first.
local function expired(list, args)
  local reader = arguments.reader(args)
  local of = view.open(named_keys(list), clock.ms())
  local wanted = arguments.integer(reader, 'epoch')
  local limit = arguments.integer(reader, 'limit')
  arguments.finish(reader)
  epoch.require(wanted)
  view.read(of)
  local reply = call('ZRANGE', of.keys.deadlines, '-inf', money.text(of.now), 'BYSCORE',
    'LIMIT', '0', money.text(limit), 'WITHSCORES')
  table.insert(reply, 1, 'EXPIRED')
  return reply
end

local function version()
  return VERSION
end
