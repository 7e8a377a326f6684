-- Reading arguments one after the other. A bad one ends the call before anything is written.

local arguments = {}

-- The largest amount: $9,000,000 in nano-dollars. Every sum that admit() compares with a cap is
-- exact below 2^53 = 9.007e15, and larger sums compare right, since rounding is monotonic.
local MAX_INTEGER = 9e15

-- Ends the call with an error reply that names the argument.
function arguments.reject(message)
  error({bad = message}, 0)
end

-- Ends the call with an answer.
function arguments.answer(reply)
  error({answer = reply}, 0)
end

function arguments.reader(list)
  return {list = list, at = 0}
end

function arguments.text(reader, what)
  reader.at = reader.at + 1
  local value = reader.list[reader.at]
  if value == nil then
    arguments.reject(what .. ' is absent')
  end
  return value
end

-- What a value must be; each answers it, or ends the call.
local checked = {}

-- A whole number from 0 to 9e15 in plain digits: no sign, fraction, exponent, nan or inf.
function checked.integer(value, what)
  local number = #value <= 16 and not find(value, '%D') and tonumber(value)
  if not number or number > MAX_INTEGER then
    arguments.reject(what .. ' must be a whole number from 0 to 9000000000000000, not "'
      .. sub(value, 1, 40) .. '"')
  end
  return number
end

-- As integer(), or nil where the value is empty.
function checked.optional_integer(value, what)
  if value == '' then
    return nil
  end
  return checked.integer(value, what)
end

-- The length of the sliding windows, in milliseconds.
function checked.window(value, what)
  local window_ms = checked.integer(value, what)
  if window_ms < BUCKETS or window_ms % BUCKETS ~= 0 then
    arguments.reject(what .. ' must be a multiple of ' .. BUCKETS .. ' ms')
  end
  return window_ms
end

function checked.flag(value, what)
  if value ~= '0' and value ~= '1' then
    arguments.reject(what .. ' must be 0 or 1')
  end
  return value == '1'
end

-- A word of lower-case letters, digits and underscores: it may stand before a colon in a field.
function checked.word(value, what)
  if not match(value, '^[a-z][a-z0-9_]*$') then
    arguments.reject(what .. ' must be a lower-case word')
  end
  return value
end

-- An identifier without control characters (records separate names by newlines).
function checked.name(value, what)
  if value == '' or #value > 512 or find(value, '%c') then
    arguments.reject(what .. ' must be 1 to 512 bytes without control characters')
  end
  return value
end

function checked.period_id(value, what)
  if find(checked.name(value, what), ':', 1, true) then
    arguments.reject(what .. ' must not contain a colon')
  end
  return value
end

-- The same, of the next argument.
local function of_next(check)
  return function(reader, what)
    return check(arguments.text(reader, what), what)
  end
end

arguments.integer = of_next(checked.integer)
arguments.optional_integer = of_next(checked.optional_integer)
arguments.window = of_next(checked.window)
arguments.flag = of_next(checked.flag)
arguments.word = of_next(checked.word)
arguments.name = of_next(checked.name)
arguments.period_id = of_next(checked.period_id)

function arguments.finish(reader)
  if reader.at ~= #reader.list then
    arguments.reject('there are ' .. (#reader.list - reader.at) .. ' arguments too many')
  end
end
