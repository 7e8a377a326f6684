-- What clients can call. `allow-oom`: money that was spent is recorded even where memory is full.

local function register(name, handler, flags)
  local function callback(keys, args)
    if not call then
      bind()
    end
    return (calls.attempt(handler, keys, args))
  end
  redis.register_function({function_name = name, callback = callback, flags = flags})
end

register('tp_begin_epoch', epoch.begin, {'allow-oom'})
register('tp_install', install, {})
register('tp_admit', admit, {})
register('tp_settle', settle, {'allow-oom'})
register('tp_spend', spend, {'no-writes'})
register('tp_expired', expired, {'no-writes'})
register('tp_version', version, {'no-writes'})
