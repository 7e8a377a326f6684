#!lua name=tenantplane
-- Admission, holds and settlement of one tree of tenants, each atomic (docs/architecture.md).
--
-- core/valkey/library.py joins the files of this folder in a fixed order into one library; what is
-- `local` here is shared by all files. State that must not survive a restart or a promotion lives in
-- upvalues (epoch.lua, root.lua): they are not replicated and not persisted, and a (re)load, a
-- restart or a full resynchronisation empties them.
--
-- A script that fails half-way is not rolled back, so every function reads and checks all of its
-- arguments first, decides, and only then writes.

local VERSION = '@VERSION@'

-- What every call uses, kept where it is found at once: looking things up in tables by their names is
-- a tenth of the server's time (perf). Only while a call runs are these given out (register.lua).
local call, find, match, sub, format, floor, pack, unpack_bytes

local function bind()
  call, floor = redis.call, math.floor
  find, match, sub, format = string.find, string.match, string.sub, string.format
  pack, unpack_bytes = struct.pack, struct.unpack
end

-- view.lua, named before its turn: windows put themselves there, and it writes them.
local view

-- An idle root is forgotten after this long, and installed anew from Postgres when it returns.
local ROOT_TTL_MS = 7 * 86400 * 1000
-- Long enough never to be renewed at every call: each renewal is replicated.
local TTL_SLACK_MS = 3600 * 1000
-- A hold's record outlives its deadline by this, yet never the root's keys.
local RECORD_TTL_MS = 5 * 86400 * 1000
local RECORD_TTL_MAX_MS = 6 * 86400 * 1000
-- How long an estimate (or a release) waits for the provider's own report.
local ESTIMATE_TTL_MS = 2 * 86400 * 1000
-- How long a hold id that is over still answers a late repeat of its own admission.
local FINAL_TTL_MS = 600 * 1000
-- How long an account is kept after its period has ended.
local PERIOD_GRACE_MS = 3 * 86400 * 1000
-- Parts of a sliding window (window.lua).
local BUCKETS = 30

local clock = {}

-- Milliseconds since 1970 on the server's clock, the only clock that counts here.
function clock.ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
end
