-- A root is one tree of tenants. Its `money` hash holds the installed marker, the known snapshot
-- versions, all accounts, windows and counts, so that no eviction can take an account and leave the
-- marker, and so that all that calls need is read in one command, and written in another (view.lua).

local root = {}

-- What every call reads first.
local ROOT_FIELDS = {'installed', 'open_holds'}

-- The keys of one root in one epoch, in the order in which keys.py declares them: these, then that
-- of the hold (install: of each hold).
local KINDS = {'money', 'deadlines', 'due'}
local FIXED_KEYS = #KINDS
local FIRST_KEY = '^(tp:{[a-z0-9-]+}:)money(:%d+)$'
-- Roots of which the keys are remembered, rather than matched anew at each call.
local MOST_KNOWN = 10000
local PRUNING_EVERY = 8
-- Of what one call makes due, each eighth call clears more than eight do, at a bounded cost.
local PRUNED_AT_ONCE = 128

local known_keys, known_count = {}, 0

-- The keys beside this one, and the pattern of its holds' keys.
local function keys_beside(money_key)
  local prefix, suffix = match(money_key or '', FIRST_KEY)
  if not prefix then
    arguments.reject('keys[0] must be the key "money" of the one root')
  end
  local keys = {hold_pattern = '^' .. string.gsub(prefix, '%p', '%%%0') .. 'hold:[%w_-]+' .. suffix .. '$'}
  for _, kind in ipairs(KINDS) do
    keys[kind] = prefix .. kind .. suffix
  end
  if known_count >= MOST_KNOWN then
    known_keys, known_count = {}, 0
  end
  known_keys[money_key], known_count = keys, known_count + 1
  return keys
end

-- Ends the call where the keys are not of one root: one tree's money would count for another's.
-- Redis Cluster refuses that only where the two happen to lie in different slots.
local function named_keys(list)
  local keys = known_keys[list[1]] or keys_beside(list[1])
  for index = 2, FIXED_KEYS do
    if list[index] ~= keys[KINDS[index]] then
      arguments.reject('keys[' .. (index - 1) .. '] must be the key "' .. KINDS[index] .. '" of the one root')
    end
  end
  for index = FIXED_KEYS + 1, #list do
    if not find(list[index], keys.hold_pattern) then
      arguments.reject('keys[' .. (index - 1) .. '] must be the key of a hold of the one root')
    end
  end
  return keys
end

-- When what to forget: `list` is times (ms) and members, one after the other, of which a member is
-- "window:…", a field of `money`, or "account:<slot>".
function root.forget_later(keys, list)
  if #list > 0 then
    call('ZADD', keys.due, unpack(list))
    root.let_expire(keys.due)
  end
end

-- A key that was just made lives as long as the root at least.
function root.let_expire(key)
  if call('PTTL', key) == -1 then
    call('PEXPIRE', key, money.text(ROOT_TTL_MS))
  end
end

-- Renews the root's life, about once an hour: each renewal is replicated.
local function renew(keys, now)
  local left = call('PTTL', keys.money)
  if left < ROOT_TTL_MS - TTL_SLACK_MS then
    for _, kind in ipairs(KINDS) do
      call('PEXPIRE', keys[kind], money.text(ROOT_TTL_MS))
    end
    left = ROOT_TTL_MS
  end
  return now + left
end

-- Keeps the root alive, and at its first call and each eighth after it, clears what is over.
function root.touch(keys, now, calls)
  local seen = seen_roots[keys.money]
  if not seen then
    seen = {must_exist_until = 0, calls = 0}
    seen_roots[keys.money] = seen
  end
  if seen.must_exist_until - now < ROOT_TTL_MS - TTL_SLACK_MS then
    seen.must_exist_until = renew(keys, now)
  end
  local prunings = math.ceil((seen.calls + calls) / PRUNING_EVERY) - math.ceil(seen.calls / PRUNING_EVERY)
  if prunings > 0 then
    root.prune(keys, now, prunings * PRUNED_AT_ONCE)
  end
  seen.calls = seen.calls + calls
end

-- Forgets windows that are empty, and accounts whose period has been over for days, unless a hold
-- is still open on them: those are looked at again after the grace. `most` of them at once.
function root.prune(keys, now, most)
  local over = call('ZRANGE', keys.due, '-inf', money.text(now), 'BYSCORE',
    'LIMIT', '0', most)
  local fields, again = {}, {}
  for _, member in ipairs(over) do
    local slot = match(member, '^account:(.*)$')
    if not slot then
      table.insert(fields, member)
      table.insert(fields, window.buckets_field(member))
    elseif call('HGET', keys.money, 'held:' .. slot) == '0' then
      table.insert(fields, 'held:' .. slot)
      table.insert(fields, 'settled:' .. slot)
    else
      table.insert(again, money.text(now + PERIOD_GRACE_MS))
      table.insert(again, member)
    end
  end
  if #over > 0 then
    call('ZREM', keys.due, unpack(over))
    if #fields > 0 then
      call('HDEL', keys.money, unpack(fields))
    end
    root.forget_later(keys, again)
  end
end
