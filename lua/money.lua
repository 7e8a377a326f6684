-- Amounts are whole nano-dollars in doubles, and strings wherever Valkey or a client sees them.

local money = {}

-- Never tostring() or cjson, which turn 123456789012345 into 1.2345678901234e+14. Adding 0 turns
-- -0, which HINCRBY refuses, into 0.
function money.text(amount)
  return string.format('%.0f', amount + 0)
end

function money.add(key, field, amount)
  redis.call('HINCRBY', key, field, money.text(amount))
end
