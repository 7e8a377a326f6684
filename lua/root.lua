-- A root is one tree of tenants. Its `money` hash holds the installed marker, the known snapshot
-- versions and all accounts, so that no eviction can take an account and leave the marker.

local root = {}

-- The keys of one root in one epoch, in the order in which keys.py declares them: these, then that
-- of the hold (install: of each hold).
local KINDS = {'money', 'deadlines', 'periods', 'windows', 'idle'}
local FIXED_KEYS = #KINDS
local FIRST_KEY = '^(tp:{[a-z0-9-]+}:)money(:%d+)$'
local HOLD_KEY = '^(tp:{[a-z0-9-]+}:)hold:[%w_-]+(:%d+)$'

-- Ends the call where the keys are not of one root: one tree's money would count for another's.
-- Redis Cluster refuses that only where the two happen to lie in different slots.
local function named_keys(list)
  local prefix, suffix = string.match(list[1] or '', FIRST_KEY)
  local keys = {hold = list[FIXED_KEYS + 1]}
  for index, kind in ipairs(KINDS) do
    keys[kind] = list[index]
    if not prefix or list[index] ~= prefix .. kind .. suffix then
      arguments.reject('keys[' .. (index - 1) .. '] must be the key "' .. kind .. '" of the one root')
    end
  end
  for index = FIXED_KEYS + 1, #list do
    local of_root, of_epoch = string.match(list[index], HOLD_KEY)
    if of_root ~= prefix or of_epoch ~= suffix then
      arguments.reject('keys[' .. (index - 1) .. '] must be the key of a hold of the one root')
    end
  end
  return keys
end

-- Ends the call unless the epoch is the open one and the root is installed and whole.
function root.open(keys, wanted_epoch, now)
  epoch.require(wanted_epoch)
  local found = redis.call('HMGET', keys.money, 'installed', 'open_holds')
  if not found[1] then
    if (must_exist_until[keys.money] or 0) > now then
      epoch.lose()
    end
    arguments.answer({'NOTINSTALLED'})
  end
  if tonumber(found[2]) ~= redis.call('ZCARD', keys.deadlines) then
    epoch.lose()
  end
end

-- Ends the call where a newer snapshot of the org was used before; else remembers this one, even if
-- the call is refused later: a suspension or a lower cap that was seen once must bind everyone.
function root.accept_version(keys, org, version)
  local field = 'version:' .. org
  local known = tonumber(redis.call('HGET', keys.money, field) or '0')
  if version < known then
    arguments.answer({'STALE', money.text(known)})
  end
  if version > known then
    redis.call('HSET', keys.money, field, money.text(version))
  end
end

-- Renews the root's life. PTTL is a read and is not replicated; PEXPIRE runs about once an hour.
function root.touch(keys, now)
  for _, key in ipairs({keys.money, keys.deadlines, keys.periods, keys.windows, keys.idle}) do
    local left = redis.call('PTTL', key)
    if left ~= -2 and left < ROOT_TTL_MS - TTL_SLACK_MS then
      redis.call('PEXPIRE', key, money.text(ROOT_TTL_MS))
      left = ROOT_TTL_MS
    end
    if key == keys.money then
      must_exist_until[key] = now + left
    end
  end
end
