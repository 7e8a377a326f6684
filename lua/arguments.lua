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

-- A whole number from 0 to 9e15 in plain digits: no sign, fraction, exponent, nan or inf.
function arguments.integer(reader, what)
  local value = arguments.text(reader, what)
  local number = #value <= 16 and not string.find(value, '%D') and tonumber(value)
  if not number or number > MAX_INTEGER then
    arguments.reject(what .. ' must be a whole number from 0 to 9000000000000000, not "'
      .. string.sub(value, 1, 40) .. '"')
  end
  return number
end

-- As integer(), or nil where the argument is empty.
function arguments.optional_integer(reader, what)
  if reader.list[reader.at + 1] == '' then
    reader.at = reader.at + 1
    return nil
  end
  return arguments.integer(reader, what)
end

-- The length of the sliding windows, in milliseconds.
function arguments.window(reader)
  local window_ms = arguments.integer(reader, 'window')
  if window_ms < BUCKETS or window_ms % BUCKETS ~= 0 then
    arguments.reject('window must be a multiple of ' .. BUCKETS .. ' ms')
  end
  return window_ms
end

function arguments.flag(reader, what)
  local value = arguments.text(reader, what)
  if value ~= '0' and value ~= '1' then
    arguments.reject(what .. ' must be 0 or 1')
  end
  return value == '1'
end

-- A word of lower-case letters, digits and underscores: it may stand before a colon in a field.
function arguments.word(reader, what)
  local value = arguments.text(reader, what)
  if not string.match(value, '^[a-z][a-z0-9_]*$') then
    arguments.reject(what .. ' must be a lower-case word')
  end
  return value
end

-- An identifier without control characters (records separate names by newlines).
function arguments.name(reader, what)
  local value = arguments.text(reader, what)
  if value == '' or #value > 512 or string.find(value, '%c') then
    arguments.reject(what .. ' must be 1 to 512 bytes without control characters')
  end
  return value
end

function arguments.period_id(reader, what)
  local value = arguments.name(reader, what)
  if string.find(value, ':', 1, true) then
    arguments.reject(what .. ' must not contain a colon')
  end
  return value
end

function arguments.finish(reader)
  if reader.at ~= #reader.list then
    arguments.reject('there are ' .. (#reader.list - reader.at) .. ' arguments too many')
  end
end
