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
-- With b0 = floor(now / w) that is b + 31 > b0: the sums change with the bucket alone, not within it.
-- So a level's window stands in two fields of `money`. "window:…", a fixed 50 bytes, is all that most
-- calls read and write: the sums, the newest bucket, and which are the oldest that count. "buckets:…"
-- are the closed ones, at most 30, the oldest first: it is touched when a bucket ends (every 2 s of a
-- minute), to correct a closed bucket, and to say when a refused request fits: up to 660 bytes that
-- no other call copies.

local window = {}

-- Newest bucket's number; requests and tokens in all and in the newest; oldest bucket with requests,
-- and with tokens (0: none).
local SUMMARY = '>I6I8I8I8I8I6I6'
local BUCKET = '>I6I8I8'  -- number, requests, tokens
local BUCKET_BYTES = 22

function window.buckets_field(field)
  return 'buckets:' .. sub(field, #'window:' + 1)
end

-- What one level's window is read into, view for view.
function window.state(level_ref, window_ms)
  local field = 'window:' .. money.text(window_ms) .. ':' .. level_ref
  return {
    field = field, buckets_field = window.buckets_field(field),
    width = window_ms / BUCKETS, length = window_ms,
  }
end

local function load_buckets(state, keys)
  if not state.buckets then
    state.buckets = call('HGET', keys.money, state.buckets_field) or ''
  end
  return state.buckets
end

local function find_oldest(state)
  local requests_at, tokens_at = 0, 0
  for at = 1, #state.buckets, BUCKET_BYTES do
    local number, requests, tokens = unpack_bytes(BUCKET, state.buckets, at)
    if requests_at == 0 and requests > 0 then requests_at = number end
    if tokens_at == 0 and tokens > 0 then tokens_at = number end
    if requests_at > 0 and tokens_at > 0 then
      break
    end
  end
  if requests_at == 0 and state.last_requests > 0 then requests_at = state.number end
  if tokens_at == 0 and state.last_tokens > 0 then tokens_at = state.number end
  state.requests_at, state.tokens_at = requests_at, tokens_at
end

-- Closes the newest bucket, begins that of `current`, and takes out what has left the window.
local function turn(state, keys, current)
  local stored = load_buckets(state, keys)
  local buckets = stored
  if state.last_requests > 0 or state.last_tokens > 0 then
    buckets = buckets .. pack(BUCKET, state.number, state.last_requests, state.last_tokens)
  end
  local from = 1
  while from < #buckets do
    local number, requests, tokens = unpack_bytes(BUCKET, buckets, from)
    if number + BUCKETS + 1 > current then
      break
    end
    state.requests, state.tokens = state.requests - requests, state.tokens - tokens
    from = from + BUCKET_BYTES
  end
  state.buckets = sub(buckets, from)
  state.closed_changed = state.closed_changed or state.buckets ~= stored
  state.number, state.last_requests, state.last_tokens, state.turned = current, 0, 0, true
  find_oldest(state)
end

-- The state of the window as it was stored (nil: nothing was), or as it is where the view knows it.
local function stored_in(of, state)
  local stored = of.values[state.field]
  if type(stored) == 'table' or not stored then
    return stored or nil
  end
  state.buckets, state.turned, state.closed_changed = nil, false, false
  state.number, state.requests, state.tokens, state.last_requests, state.last_tokens,
    state.requests_at, state.tokens_at = unpack_bytes(SUMMARY, stored)
  of.values[state.field] = state
  return state
end

local function empty(state, current)
  state.buckets, state.turned, state.closed_changed, state.number = '', true, false, current
  state.requests, state.tokens, state.last_requests, state.last_tokens = 0, 0, 0, 0
  state.requests_at, state.tokens_at = 0, 0
  return state
end

-- What is counted now. `state` is where it is read into, unless the view knows it already. A server's
-- clock that was set back counts on in the newest bucket: it must not put buckets out of order.
function window.read(of, state)
  local current = floor(of.now / state.width)
  local stored = stored_in(of, state)
  if not stored then
    return empty(state, current)
  end
  if stored.number < current then
    turn(stored, of.keys, current)
  end
  return stored
end

local function left_until(state, number, now)
  return (number + 1) * state.width + state.length - now
end

-- Milliseconds until `amount` more of the measure fits under the limit; nil where it never will.
function window.retry_after(state, keys, measure, limit, amount, now)
  local left = state[measure]
  local buckets = load_buckets(state, keys)
    .. pack(BUCKET, state.number, state.last_requests, state.last_tokens)
  for at = 1, #buckets, BUCKET_BYTES do
    local number, requests, tokens = unpack_bytes(BUCKET, buckets, at)
    left = left - (measure == 'requests' and requests or tokens)
    if left + amount <= limit then
      return left_until(state, number, now)
    end
  end
  return nil
end

-- Milliseconds until the oldest request, and the oldest token, that is counted leaves; 0 for none.
function window.resets(state, now)
  return state.requests_at > 0 and left_until(state, state.requests_at, now) or 0,
    state.tokens_at > 0 and left_until(state, state.tokens_at, now) or 0
end

-- Adds what is to be stored to `writes`, of which there are `count`; answers how many there are then.
function window.write(state, writes, count)
  writes[count + 1] = state.field
  writes[count + 2] = pack(SUMMARY, state.number, state.requests, state.tokens,
    state.last_requests, state.last_tokens, state.requests_at, state.tokens_at)
  count = count + 2
  if state.closed_changed then
    writes[count + 1], writes[count + 2] = state.buckets_field, state.buckets
    count = count + 2
  end
  return count
end

-- Counts requests and tokens now at all of them. A bucket that begins moves the time (ms) when the
-- window will be empty.
function window.add(of, states, count, requests, tokens)
  for index = 1, count do
    local state = states[index]
    state.requests, state.tokens = state.requests + requests, state.tokens + tokens
    state.last_requests = state.last_requests + requests
    state.last_tokens = state.last_tokens + tokens
    if requests > 0 and state.requests_at == 0 then state.requests_at = state.number end
    if tokens > 0 and state.tokens_at == 0 then state.tokens_at = state.number end
    view.put(of, state.field, state)
    if state.turned then
      local due = of.due
      due[#due + 1] = money.text((state.number + 1) * state.width + state.length)
      due[#due + 1] = state.field
      state.turned = false
    end
  end
end

-- Whether that bucket was stored.
local function correct_closed(state, keys, wanted, difference)
  local buckets = load_buckets(state, keys)
  for at = #buckets - BUCKET_BYTES + 1, 1, -BUCKET_BYTES do
    local number, requests, tokens = unpack_bytes(BUCKET, buckets, at)
    if number < wanted then
      return false
    end
    if number == wanted then
      local corrected = math.max(0, tokens + difference)
      state.tokens = state.tokens + corrected - tokens
      state.buckets = sub(buckets, 1, at - 1) .. pack(BUCKET, number, requests, corrected)
        .. sub(buckets, at + BUCKET_BYTES)
      state.closed_changed = true
      return true
    end
  end
  return false
end

-- Adds the difference between real and estimated tokens where the estimate was counted, as long as
-- that bucket is stored; afterwards neither counts. The window is left at the bucket of its last
-- count, since only a count moves the time when it is empty.
function window.correct(of, known, admitted_at, difference)
  local state = stored_in(of, known)
  if not state then
    return
  end
  local wanted = floor(admitted_at / state.width)
  if wanted >= state.number then
    local corrected = math.max(0, state.last_tokens + difference)
    state.tokens = state.tokens + corrected - state.last_tokens
    state.last_tokens = corrected
    if corrected > 0 and state.tokens_at == 0 then
      state.tokens_at = state.number
    elseif corrected == 0 and state.tokens_at == state.number then
      state.tokens_at = 0
    end
  elseif correct_closed(state, of.keys, wanted, difference) then
    find_oldest(state)
  else
    return
  end
  view.put(of, state.field, state)
end
