-- Sight of a request's levels: all that admit and spend know of them, read in one command.

local sight = {}

-- Reads into what the last call used: malloc and free are a third of the server's time (perf).
-- Nothing may keep them.
local seen, used = {}, {}
-- Of a call that nothing in shadow objects to.
local NOTHING = {}

-- `used` are amounts by account, `found` what was read, `shadowed` what levels in shadow have against
-- the request. `version` is the known snapshot version of the org.
function sight.look(keys, of, org, now)
  of.fields[3] = 'version:' .. org
  local found = root.read(keys, of.fields, of.field_count, now)
  seen.keys, seen.plan, seen.found, seen.now, seen.used = keys, of, found, now, used
  seen.version, seen.shadowed = found[3], NOTHING
  local at = of.accounts_at
  for index = 1, #of.accounts do
    used[index] = tonumber(found[at + 1] or 0) + tonumber(found[at + 2] or 0)
    at = at + 2
  end
  for index = 1, #of.windows do
    window.read(of.windows[index], keys, found[of.windows_at + index], now)
  end
  return seen
end

-- Notes what a level in shadow has against the request.
function sight.note(of, refusal)
  if of.shadowed == NOTHING then
    of.shadowed = {}
  end
  table.insert(of.shadowed, refusal)
end

-- How many calls the level has that is at `index` among those that limit them.
function sight.calls(of, index)
  return tonumber(of.found[of.plan.counting_at + index] or 0)
end

-- Five numbers of each level that limits a rate, the first of them its place in the request.
function sight.add_windows(reply, of)
  local at, states, places = #reply, of.plan.windows, of.plan.window_places
  for index = 1, #states do
    local state = states[index]
    reply[at + 1], reply[at + 2], reply[at + 3] = places[index], state.requests, state.tokens
    reply[at + 4], reply[at + 5] = window.resets(state, of.now)
    at = at + 5
  end
  return reply
end
