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
-- A level's window stands in one field of `money`: the sums of requests and tokens, then its buckets,
-- the oldest first, at most 31. All have a fixed width in bytes, so that a call unpacks the oldest
-- and the newest alone, however many there are between.

local window = {}

local SUMS = '>I8I8'
local SUMS_BYTES = 16
local BUCKET = '>I6I8I8'  -- number, requests, tokens
local BUCKET_BYTES = 22

-- The field of a level's window, kept with the level.
function window.field_of(level, window_ms)
  if level.window_ms ~= window_ms then
    level.window_ms = window_ms
    level.window_field = 'window:' .. money.text(window_ms) .. ':' .. level.ref
  end
  return level.window_field
end

-- What is counted at `now`, of what was stored in the field (false: nothing). `from` is where the
-- first bucket that still counts begins.
function window.parse(stored, field, window_ms, now)
  local state = {
    field = field,
    width = window_ms / BUCKETS,
    length = window_ms,
    stored = stored or struct.pack(SUMS, 0, 0),
    from = SUMS_BYTES + 1,
    requests = 0,
    tokens = 0,
  }
  state.requests, state.tokens = struct.unpack(SUMS, state.stored)
  while state.from < #state.stored do
    local number, requests, tokens = struct.unpack(BUCKET, state.stored, state.from)
    if (number + 1) * state.width > now - window_ms then
      break
    end
    state.requests = state.requests - requests
    state.tokens = state.tokens - tokens
    state.from = state.from + BUCKET_BYTES
  end
  return state
end

local function left_until(state, number, now)
  return (number + 1) * state.width + state.length - now
end

-- Milliseconds until `amount` more of the measure fits under the limit; nil where it never will.
function window.retry_after(state, measure, limit, amount, now)
  local left = state[measure]
  for at = state.from, #state.stored, BUCKET_BYTES do
    local number, requests, tokens = struct.unpack(BUCKET, state.stored, at)
    left = left - (measure == 'requests' and requests or tokens)
    if left + amount <= limit then
      return left_until(state, number, now)
    end
  end
  return nil
end

-- Milliseconds until the oldest request, and the oldest token, that is counted leaves; 0 for none.
function window.resets(state, now)
  local of_requests, of_tokens
  for at = state.from, #state.stored, BUCKET_BYTES do
    local number, requests, tokens = struct.unpack(BUCKET, state.stored, at)
    of_requests = of_requests or requests > 0 and left_until(state, number, now)
    of_tokens = of_tokens or tokens > 0 and left_until(state, number, now)
    if of_requests and of_tokens then
      break
    end
  end
  return of_requests or 0, of_tokens or 0
end

local function store(state, buckets)
  state.stored = struct.pack(SUMS, state.requests, state.tokens) .. buckets
  state.from = SUMS_BYTES + 1
end

-- Counts requests and tokens now. Answers when (ms) the window is empty, where that has changed.
local function count(state, requests, tokens, now)
  local current = math.floor(now / state.width)
  local last_at = #state.stored - BUCKET_BYTES + 1
  local number, before_requests, before_tokens = -1, 0, 0
  if last_at >= state.from then
    number, before_requests, before_tokens = struct.unpack(BUCKET, state.stored, last_at)
  end
  state.requests = state.requests + requests
  state.tokens = state.tokens + tokens
  -- A server's clock that was set back must not put buckets out of order.
  if number >= current then
    store(state, string.sub(state.stored, state.from, last_at - 1)
      .. struct.pack(BUCKET, number, before_requests + requests, before_tokens + tokens))
    return nil
  end
  store(state, string.sub(state.stored, state.from) .. struct.pack(BUCKET, current, requests, tokens))
  return (current + 1) * state.width + state.length
end

-- Adds to `writes` and `due` what counting at all of them changes.
function window.add(states, requests, tokens, now, writes, due)
  for _, state in ipairs(states) do
    local empty_at = count(state, requests, tokens, now)
    table.insert(writes, state.field)
    table.insert(writes, state.stored)
    if empty_at then
      table.insert(due, money.text(empty_at))
      table.insert(due, state.field)
    end
  end
end

-- Adds the difference between real and estimated tokens where the estimate was counted, as long as
-- that bucket is in the window; afterwards neither counts. Answers whether anything changed.
function window.correct(state, admitted_at, difference)
  local wanted = math.floor(admitted_at / state.width)
  for at = #state.stored - BUCKET_BYTES + 1, state.from, -BUCKET_BYTES do
    local number, requests, tokens = struct.unpack(BUCKET, state.stored, at)
    if number < wanted then
      return false
    end
    if number == wanted then
      local corrected = math.max(0, tokens + difference)
      state.tokens = state.tokens + corrected - tokens
      store(state, string.sub(state.stored, state.from, at - 1)
        .. struct.pack(BUCKET, number, requests, corrected)
        .. string.sub(state.stored, at + BUCKET_BYTES))
      return true
    end
  end
  return false
end
