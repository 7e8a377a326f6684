-- Sight of a request's levels: all that admit and spend know of them, read in one command.

local sight = {}

-- The levels for which `limits` is true, and their fields, appended to `fields`.
local function append(fields, list, limits, field)
  local chosen, count, at = {}, 0, #fields
  for index = 1, #list do
    local level = list[index]
    if limits(level) then
      count = count + 1
      chosen[count] = level
      fields[at + count] = field(level)
    end
  end
  return chosen, at
end

local function limits_rate(level)
  return level.requests or level.tokens
end

local function limits_calls(level)
  return level.calls
end

local function open_field(level)
  return level.open
end

local function parse_windows(found, first, fields, limiting, window_ms, now)
  local states = {}
  for index, level in ipairs(limiting) do
    local at = first + index
    states[index] = window.parse(found[at], fields[at], window_ms, now)
    states[index].level = level
  end
  return states
end

-- `used` and `held` are numbers by account (`held` nil for an account that is new), `windows` states
-- of the levels that limit a rate, `counting` the levels that limit calls at a time and `calls` how
-- many each has, `shadowed` what levels in shadow have against the request. `version` is the known
-- snapshot version of the request's org.
function sight.look(keys, request, accounts, now)
  local fields = root.fields()
  local first = #fields + 1
  fields[first] = 'version:' .. request.org
  for index = 1, #accounts do
    local entry = accounts[index]
    fields[first + 2 * index - 1], fields[first + 2 * index] = entry.held, entry.settled
  end
  local limiting, windows_at = append(fields, request.levels, limits_rate, function(level)
    return window.field_of(level, request.window)
  end)
  local counting, calls_at = append(fields, request.levels, limits_calls, open_field)
  local found = root.read(keys, fields, now)
  local seen = {
    now = now, accounts = accounts, found = found, first = first, shadowed = {},
    open_holds = tonumber(found[2]), version = found[first],
    used = {}, held = {}, counting = counting, calls = {},
    windows = parse_windows(found, windows_at, fields, limiting, request.window, now),
  }
  for index = 1, #accounts do
    local held = found[first + 2 * index - 1]
    held = held and tonumber(held) or nil
    seen.held[index] = held
    seen.used[index] = (held or 0) + tonumber(found[first + 2 * index] or 0)
  end
  for index in ipairs(counting) do
    seen.calls[index] = tonumber(found[calls_at + index] or 0)
  end
  return seen
end

-- By level its place in the request, from 0.
function sight.places(list)
  local places = {}
  for index, level in ipairs(list) do
    places[level] = index - 1
  end
  return places
end

-- Five numbers of each level that limits a rate, the first of them its place in the request.
function sight.add_windows(reply, request, states, now)
  local places, at = sight.places(request.levels), #reply
  for _, state in ipairs(states) do
    local of_requests, of_tokens = window.resets(state, now)
    reply[at + 1], reply[at + 2], reply[at + 3] = places[state.level], state.requests, state.tokens
    reply[at + 4], reply[at + 5] = of_requests, of_tokens
    at = at + 5
  end
  return reply
end
