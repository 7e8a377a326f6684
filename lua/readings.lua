-- What is there, changing nothing.

-- spend: settled and held of each level in the periods that are current on the server's clock.
local function spend(list, args)
  local keys = named_keys(list)
  local reader = arguments.reader(args)
  local wanted = arguments.integer(reader, 'epoch')
  local asked = levels.read(reader)
  arguments.finish(reader)
  local now = clock.ms()
  root.open(keys, wanted, now)
  local reply = {'SPEND'}
  local accounts = levels.current_accounts(asked, now)
  local amounts = account.read(keys, levels.slots(accounts))
  for index, entry in ipairs(accounts) do
    table.insert(reply, entry.level.kind)
    table.insert(reply, entry.level.id)
    table.insert(reply, entry.period.name)
    table.insert(reply, entry.period.id)
    table.insert(reply, amounts[index].settled)
    table.insert(reply, amounts[index].held)
    table.insert(reply, entry.period.soft and money.text(entry.period.soft) or '')
    table.insert(reply, entry.period.hard and money.text(entry.period.hard) or '')
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
  root.open(keys, wanted, now)
  local reply = redis.call('ZRANGE', keys.deadlines, '-inf', money.text(now), 'BYSCORE',
    'LIMIT', '0', money.text(limit), 'WITHSCORES')
  table.insert(reply, 1, 'EXPIRED')
  return reply
end

local function version()
  return VERSION
end
