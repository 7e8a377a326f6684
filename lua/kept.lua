-- What was made of a text, kept by the text or by a name of it: the same levels and records come by the
-- thousand, and reading one anew costs many times a look into a table.

local kept = {}

-- Of one generation; there are two, so that a full one takes nothing that is in use. Many more would
-- cost the garbage collector what they spare.
local KEPT = 1000

-- A function from a name (and what else there is to make it of) to what `make` gives for these, and
-- whether the name was met before. What was met once is not kept: most runs make one call and never
-- return.
function kept.by_name(make)
  local young, old, count = {}, {}, 0
  return function(name, text, at)
    local value = young[name]
    if value then
      return value, true
    end
    local met = value == false or old[name] ~= nil
    if value == nil then
      if count >= KEPT then
        young, old, count = {}, young, 0
      end
      count = count + 1
    end
    value = old[name] or make(name, text, at)
    young[name] = met and value
    return value, met
  end
end
