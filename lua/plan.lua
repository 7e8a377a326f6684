-- A plan: all that admitting under the same levels needs, made once and kept: which fields to read,
-- where each answer is found, and the text of where a hold then stands. It holds no amounts.

local plan = {}

-- Plans that are kept; when there are more, it is begun anew. Many more would cost the garbage collector what
-- they spare.
local MOST_PLANS = 2000

-- By a digest of the text of their levels, of 32 digits: what is longer Lua hashes by 32 of its bytes,
-- and the texts of an org's users met in one place.
local plans, plan_count = {}, 0

-- A level has one state for all plans that name it: a call has one plan, which names it once.
local function window_of(level, window_ms)
  if not level.window or level.window.length ~= window_ms then
    level.window = window.state(level.ref, window_ms)
  end
  return level.window
end

local function add_windows(made, fields)
  for index, level in ipairs(made.levels) do
    if level.requests or level.tokens then
      local state = window_of(level, made.window)
      made.windows[#made.windows + 1] = {level = level, place = index - 1, state = state}
      fields[#fields + 1] = state.field
    end
  end
end

local function add_counting(made, fields)
  for index, level in ipairs(made.levels) do
    if level.calls then
      made.counting[#made.counting + 1] = {level = level, place = index - 1}
      fields[#fields + 1] = level.open
    end
  end
end

-- The plan for a hold on these accounts, which need not be the levels' own of now. Of `fields` the
-- first is that of the org's version, which each call sets.
function plan.make(list, accounts, window_ms)
  local fields = {''}
  local made = {
    levels = list, accounts = accounts, window = window_ms, fields = fields, windows = {}, counting = {},
  }
  for index = 1, #accounts do
    local entry = accounts[index]
    fields[2 * index], fields[2 * index + 1] = entry.held, entry.settled
  end
  add_windows(made, fields)
  add_counting(made, fields)
  for _, level in ipairs(list) do
    made.suspended = made.suspended or level.suspended and level
  end
  made.field_count = #fields
  return made
end

-- The text of where a new hold under the plan stands; settle() corrects the windows of tokens.
function plan.places_text(of)
  if not of.text then
    local counted, token_levels = {}, {}
    for index, level in ipairs(of.levels) do
      counted[#counted + 1] = level.calls and level.ref or nil
      token_levels[#token_levels + 1] = level.tokens and level.ref or nil
    end
    of.text = hold.places_text(of.window, levels.slots(of.accounts), counted, token_levels)
  end
  return of.text
end

local function keep(digest, made)
  if plan_count >= MOST_PLANS then
    plans, plan_count = {}, 0
  end
  plans[digest], plan_count = made, plan_count + 1
end

-- The plan of the levels in the text, which begin at `levels_at`; those of a digest are always the same.
function plan.of(digest, text, levels_at, window_ms, now)
  local found = plans[digest]
  if found and found.window == window_ms and found.since <= now and now < found.till then
    return found
  end
  local list, all_known = levels.read(sub(text, levels_at))
  local accounts, since, till = levels.current_accounts(list, now)
  local made = plan.make(list, accounts, window_ms)
  made.since, made.till = since, till
  if all_known then
    keep(digest, made)
  end
  return made
end
