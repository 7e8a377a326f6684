-- What is there, changing nothing.

local function read_question(args)
  local reader = arguments.reader(args)
  local question = {
    epoch = arguments.integer(reader, 'epoch'),
    window = arguments.window(reader),
    org = '',
  }
  question.levels = levels.read(reader)
  return question
end

local function add_accounts(reply, seen)
  for index, entry in ipairs(seen.accounts) do
    local held_at = seen.first + 2 * index - 1
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
  local question = read_question(args)
  local now = clock.ms()
  epoch.require(question.epoch)
  local accounts = levels.current_accounts(question.levels, now)
  local seen = sight.look(keys, question, accounts, now)
  local places = sight.places(question.levels)
  local reply = {'SPEND', #accounts, #seen.windows}
  add_accounts(reply, seen)
  sight.add_windows(reply, question, seen.windows, now)
  for index, level in ipairs(seen.counting) do
    table.insert(reply, places[level])
    table.insert(reply, seen.calls[index])
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
  root.read(keys, root.fields(), now)
  local reply = redis.call('ZRANGE', keys.deadlines, '-inf', money.text(now), 'BYSCORE',
    'LIMIT', '0', money.text(limit), 'WITHSCORES')
  table.insert(reply, 1, 'EXPIRED')
  return reply
end

local function version()
  return VERSION
end
