-- The epoch is a number in Postgres. This server may only be used under the epoch that was begun
-- on it since it started: after a restart or a promotion its data may be old, even where it looks
-- whole, and open_epoch is nil.

local open_epoch = nil
-- The highest one begun since the start: an epoch that was lost is never begun again.
local highest_epoch = 0
-- By a root's money key, since it was first seen in the open epoch: until when (ms) it must exist,
-- and how many calls it has had.
local seen_roots = {}

local epoch = {}

function epoch.reply()
  return {'EPOCH', open_epoch and money.text(open_epoch) or ''}
end

function epoch.require(wanted)
  if open_epoch ~= wanted then
    arguments.answer(epoch.reply())
  end
end

-- Data that was here is gone or contradicts itself (FLUSHALL, eviction, DEL): nothing on this
-- server can be trusted any more.
function epoch.lose()
  open_epoch = nil
  seen_roots = {}
  arguments.answer(epoch.reply())
end

-- Only the process that has raised the epoch in Postgres calls this, once. It is registered as a
-- writing function so that a replica refuses it: a replica must not know an epoch when promoted.
function epoch.begin(_, args)
  local reader = arguments.reader(args)
  local wanted = arguments.integer(reader, 'epoch')
  arguments.finish(reader)
  if wanted < 1 then
    arguments.reject('epoch must be 1 or more')
  end
  if money.text(MAX_INTEGER) ~= '9000000000000000' then
    arguments.reject('epoch must not be begun on a server that cannot print amounts')
  end
  if wanted <= highest_epoch then
    return epoch.reply()
  end
  open_epoch = wanted
  highest_epoch = wanted
  seen_roots = {}
  return {'BEGUN'}
end
