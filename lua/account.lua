-- Accounts: settled and held amounts of one level in one period. A slot names an account:
-- "<kind>:<period>:<period id>:<level id>"; only the last part may contain colons. In the root's
-- `money` hash "settled:<slot>" and "held:<slot>" are the amounts: an account that was never used,
-- or was forgotten long after its period, has no "held:<slot>".

local account = {}

function account.slot(kind, id, period, period_id)
  return kind .. ':' .. period .. ':' .. period_id .. ':' .. id
end

-- The account of a level's period: what reading and writing it needs, made once.
function account.of(level, period, slot)
  slot = slot or account.slot(level.kind, level.id, period.name, period.id)
  return {
    level = level, period = period, slot = slot, held = 'held:' .. slot, settled = 'settled:' .. slot,
  }
end

-- The kind, period name and level id of a slot.
function account.parts(slot)
  local kind, name, _, id = match(slot, '^([^:]*):([^:]*):([^:]*):(.*)$')
  return kind, name, id
end

-- When (ms) an account may be forgotten, and its name among what is due.
function account.due(slot, end_unix)
  return money.text(end_unix * 1000 + PERIOD_GRACE_MS), 'account:' .. slot
end
