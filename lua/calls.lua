-- Many calls of one root in one: each is decided on what those before it have left, and has an answer
-- of its own. A plane sends those together that are asked in one turn of its loop (pipeline.py): what
-- they cost beside their decisions (the clock, reading, writing) they share.

local calls = {}

-- The reply to what ended a call.
local function reply_to(ended)
  if type(ended) ~= 'table' then
    return redis.error_reply('ERR tenantplane library: ' .. tostring(ended))
  elseif ended.answer then
    return ended.answer
  elseif ended.bad then
    return redis.error_reply('BADARG ' .. ended.bad)
  end
  return redis.error_reply(ended.err or 'ERR tenantplane library')
end

-- What the handler answers, or the reply to what ended it, and whether it was not ended.
function calls.attempt(handler, ...)
  local ok, value = pcall(handler, ...)
  if ok then
    return value, true
  end
  return reply_to(value), false
end

-- The stored records of the holds that are named; a call has its own.
local function stored_holds(list)
  local seen = {}
  for index = FIXED_KEYS + 1, #list do
    if seen[list[index]] then
      arguments.reject('keys[' .. (index - 1) .. '] is there twice')
    end
    seen[list[index]] = true
  end
  return call('MGET', unpack(list, FIXED_KEYS + 1))
end

-- A function from keys (those of the root, then a hold's for each call) and arguments (one for each call)
-- to an answer for each call. `ask(view, text, stored)` reads a call, of whose hold `stored` is the
-- record, and says what must be read; `decide(view, asked)` answers it.
function calls.of_one_root(ask, decide)
  return function(list, args)
    local keys, count = named_keys(list), #list - FIXED_KEYS
    if count < 1 or count ~= #args then
      arguments.reject('keys must be those of the root, and of a hold for each argument')
    end
    local of, stored = view.open(keys, clock.ms()), stored_holds(list)
    local asked, replies, any = {}, {}, false
    for index = 1, count do
      local reply, ok = calls.attempt(ask, of, args[index], stored[index])
      if ok then
        reply.key, asked[index], any = list[FIXED_KEYS + index], reply, true
      else
        replies[index] = reply
      end
    end
    if not any then
      return replies
    end
    local ended, whole = calls.attempt(view.read, of)
    for index = 1, count do
      if asked[index] then
        replies[index] = whole and calls.attempt(decide, of, asked[index]) or ended
      end
    end
    if whole and open_epoch then  -- else nothing that is here counts any more
      view.close(of)
      root.touch(keys, of.now, count)
    end
    return replies
  end
end
