-- A root is one tree of tenants. Its `money` hash holds the installed marker, the known snapshot
-- versions and all accounts, so that no eviction can take an account and leave the marker.

local root = {}

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
