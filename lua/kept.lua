-- What was made of a text, kept by the text: the same levels and records come by the thousand, and
-- reading one anew costs many times a look into a table.

local kept = {}

-- Of one generation; there are two, so that a full one takes nothing that is in use. Many more would
-- cost the garbage collector what they spare.
local KEPT = 1000

-- A function from a text (and its name for errors) to what `make` gives for it, and whether the text
-- was met before. What was met once is not kept: most runs make one call and never return.
function kept.by_text(make)
  local young, old, count = {}, {}, 0
  return function(text, what)
    local value = young[text]
    if value then
      return value, true
    end
    local met = value == false or old[text] ~= nil
    if value == nil then
      if count >= KEPT then
        young, old, count = {}, young, 0
      end
      count = count + 1
    end
    value = old[text] or make(text, what)
    young[text] = met and value
    return value, met
  end
end
