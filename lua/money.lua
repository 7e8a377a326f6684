-- Amounts are whole nano-dollars in doubles, and strings wherever Valkey or a client sees them.

local money = {}

-- Never tostring(), `..` or cjson, which turn 123456789012345 into 1.2345678901234e+14. '%d' goes
-- through a C long: exact where that has 64 bits (epoch.begin asks), in half the time of '%.0f'.
function money.text(amount)
  return format('%d', amount)
end

function money.add(key, field, amount)
  call('HINCRBY', key, field, money.text(amount))
end
