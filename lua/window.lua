-- Sliding windows of requests and tokens, one per level.
--
-- The window W is cut into 30 buckets of width w = W / 30, aligned to the server's clock. With
-- n(b) the count of bucket b, which covers [b*w, (b+1)*w):
--
--     used(now) = sum of n(b) over all b with (b+1)*w > now - W
--
-- A bucket that the window still touches counts whole. So no interval of length W ever sees more
-- than the limit, and a request is counted for W to W + w (a minute: 60 to 62 s). The common
-- two-bucket estimate previous * (1 - elapsed / W) + current (Cloudflare, "How we built rate
-- limiting capable of scaling to millions of domains", 2017) is smaller, but admits up to half the
-- limit too much where the requests of the previous minute came at its end.
--
-- A level's buckets stand in one field of the root's `windows` hash, as "bucket:requests:tokens;…",
-- at most 31 of them. `idle` lists the fields by the time at which they are empty.

local window = {}

local BUCKETS = 30
local PRUNED_PER_CALL = 4

local function parse(stored, field, window_ms, now)
  local state = {
    field = field,
    width = window_ms / BUCKETS,
    length = window_ms,
    buckets = {},
    requests = 0,
    tokens = 0,
    empty_at = nil,  -- as `idle` has it
  }
  for bucket, requests, tokens in string.gmatch(stored or '', '(%d+):(%d+):(%d+)') do
    local entry = {at = tonumber(bucket), requests = tonumber(requests), tokens = tonumber(tokens)}
    if (entry.at + 1) * state.width > now - window_ms then
      table.insert(state.buckets, entry)
      state.requests = state.requests + entry.requests
      state.tokens = state.tokens + entry.tokens
      state.empty_at = (entry.at + 1) * state.width + window_ms
    end
  end
  return state
end

-- The windows of the levels ("kind:id"), in their order.
function window.read(keys, refs, window_ms, now)
  local fields, states = {}, {}
  for _, ref in ipairs(refs) do
    table.insert(fields, money.text(window_ms) .. ':' .. ref)
  end
  if #fields == 0 then
    return states
  end
  local stored = redis.call('HMGET', keys.windows, unpack(fields))
  for index, field in ipairs(fields) do
    table.insert(states, parse(stored[index], field, window_ms, now))
  end
  return states
end

-- Milliseconds until `amount` more fits under the limit; nil where it never will.
function window.retry_after(state, measure, limit, amount, now)
  local left = state[measure]
  for _, entry in ipairs(state.buckets) do
    left = left - entry[measure]
    if left + amount <= limit then
      return (entry.at + 1) * state.width + state.length - now
    end
  end
  return nil
end

local function bucket_at(state, time)
  local wanted = math.floor(time / state.width)
  for _, entry in ipairs(state.buckets) do
    if entry.at == wanted then
      return entry
    end
  end
  return nil
end

local function text(state)
  local parts = {}
  for _, entry in ipairs(state.buckets) do
    table.insert(parts, string.format('%.0f:%.0f:%.0f', entry.at, entry.requests, entry.tokens))
  end
  return table.concat(parts, ';')
end

local function write(keys, states)
  local pairs_of_fields = {}
  for _, state in ipairs(states) do
    table.insert(pairs_of_fields, state.field)
    table.insert(pairs_of_fields, text(state))
  end
  if #states > 0 then
    redis.call('HSET', keys.windows, unpack(pairs_of_fields))
  end
end

local function count(state, requests, tokens, now)
  local last = state.buckets[#state.buckets]
  local current = math.floor(now / state.width)
  -- A server's clock that was set back must not put buckets out of order.
  if not last or last.at < current then
    last = {at = current, requests = 0, tokens = 0}
    table.insert(state.buckets, last)
  end
  last.requests = last.requests + requests
  last.tokens = last.tokens + tokens
  state.requests = state.requests + requests
  state.tokens = state.tokens + tokens
  return (last.at + 1) * state.width + state.length
end

function window.add(keys, states, requests, tokens, now)
  for _, state in ipairs(states) do
    local empty_at = count(state, requests, tokens, now)
    if empty_at ~= state.empty_at then
      redis.call('ZADD', keys.idle, money.text(empty_at), state.field)
    end
  end
  write(keys, states)
end

-- Adds the difference between real and estimated tokens where the estimate was counted, as long as
-- that bucket is in the window; afterwards neither counts.
function window.correct(keys, refs, window_ms, admitted_at, difference, now)
  local changed = {}
  for _, state in ipairs(window.read(keys, refs, window_ms, now)) do
    local entry = bucket_at(state, admitted_at)
    if entry then
      entry.tokens = math.max(0, entry.tokens + difference)
      table.insert(changed, state)
    end
  end
  write(keys, changed)
end

-- Bounded work per call: each call makes at most one field a level, and four are cleared.
function window.prune(keys, now)
  local empty = redis.call(
    'ZRANGE', keys.idle, '-inf', money.text(now), 'BYSCORE', 'LIMIT', '0', PRUNED_PER_CALL)
  for _, field in ipairs(empty) do
    redis.call('HDEL', keys.windows, field)
    redis.call('ZREM', keys.idle, field)
  end
end
