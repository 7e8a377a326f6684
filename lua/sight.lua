-- Sight of a request's levels: what admit and spend know of them.

local sight = {}

-- Made anew by each call in what the last one used. Nothing may keep them.
local seen, used, windows = {}, {}, {}
-- Of a call that nothing in shadow objects to.
local NOTHING = {}

-- The view is to hold what the plan needs to know, for the org's version too.
function sight.want(view_of, of, org)
  of.fields[1] = 'version:' .. org
  view.want(view_of, of.fields, of.field_count)
end

-- `used` are amounts by account, `windows` the states by window, `shadowed` what levels in shadow have
-- against the request.
function sight.look(view_of, of)
  local values, accounts, states = view_of.values, of.accounts, of.windows
  seen.view, seen.values, seen.plan, seen.now = view_of, values, of, view_of.now
  seen.used, seen.windows, seen.shadowed = used, windows, NOTHING
  for index = 1, #accounts do
    local entry = accounts[index]
    used[index] = tonumber(values[entry.held] or 0) + tonumber(values[entry.settled] or 0)
  end
  for index = 1, #states do
    windows[index] = window.read(view_of, states[index].state)
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

-- How many calls the level has.
function sight.calls(of, level)
  return tonumber(of.values[level.open] or 0)
end

-- Five numbers of each level that limits a rate, the first of them its place in the request.
function sight.add_windows(reply, of)
  local at, entries, states = #reply, of.plan.windows, of.windows
  for index = 1, #entries do
    local state = states[index]
    reply[at + 1], reply[at + 2], reply[at + 3] = entries[index].place, state.requests, state.tokens
    reply[at + 4], reply[at + 5] = window.resets(state, of.now)
    at = at + 5
  end
  return reply
end
