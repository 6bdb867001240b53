"""What the server does with deliveries, each in one atomic step. Only `deliveries.py` runs these.

Each is told the time as ARGV[1]; 0 means the server's own clock. Times go as text: a number would lose its fraction.
"""

_NOW = """
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local function later(seconds) return string.format('%.6f', now + seconds) end
"""

# KEYS: receiver, events, due, undelivered. ARGV: now, group, events at most, how many may wait, bound of undelivered,
# lane of operators, what follows a lane in the due set.
# The group's position is moved last: whatever goes wrong before, the same events come again. A lane that is held back
# by an event of its own does not count as waiting, or one merchant's trouble would be everybody's.
MOVE = (
    _NOW
    + """
local waiting, held_back, failures = unpack(redis.call('HMGET', KEYS[1], 'waiting', 'held_back', 'failures'))
local room = math.min(tonumber(ARGV[3]), ARGV[4] - ((waiting or 0) - (held_back or 0)))
if failures or room <= 0 then return {0, 0, 0, ''} end
local function fields(flat)
  local named = {}
  for index = 1, #flat, 2 do named[flat[index]] = flat[index + 1] end
  return named
end
local group
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
for _, flat in ipairs(groups.err and {} or groups) do
  if fields(flat).name == ARGV[2] then group = fields(flat) end
end
if not group then
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], '$', 'MKSTREAM')
  local stream = fields(redis.call('XINFO', 'STREAM', KEYS[2]))
  local last = stream['last-generated-id']
  redis.call('XGROUP', 'SETID', KEYS[2], ARGV[2], last, 'ENTRIESREAD', stream['entries-added'])
  return {0, 0, 0, last}
end
local stream = fields(redis.call('XINFO', 'STREAM', KEYS[2]))
local read, missed = group['entries-read'], 0
local gone = stream['entries-added'] - stream['length']
if read and gone > read then
  missed = gone - read
  read = gone
end
local entries = redis.call('XRANGE', KEYS[2], '(' .. group['last-delivered-id'], '+', 'COUNT', room)
if #entries == 0 and missed == 0 then return {0, 0, 0, ''} end
local moved, set_aside, last = 0, 0, group['last-delivered-id']
for _, entry in ipairs(entries) do
  last = entry[1]
  local text = fields(entry[2]).event or ''
  local ok, event = pcall(cjson.decode, text)
  local lane
  if ok and type(event) == 'table' and type(event.id) == 'string' and type(event.type) == 'string'
    and #event.id <= 256 and string.find(event.id, '^[!-~]+$') then
    if string.sub(event.type, 1, 13) == 'occ.operator.' then
      lane = ARGV[6]
    elseif type(event.subject) == 'string' and #event.subject <= 128 and string.find(event.subject, '^[%w._~-]+$') then
      lane = event.subject
    end
  end
  if lane then
    redis.call('RPUSH', 'occ:deliveries:' .. lane, text)
    redis.call('ZADD', KEYS[3], 'NX', later(0), lane .. ARGV[7])
    redis.call('HINCRBY', KEYS[1], 'waiting', 1)
    if redis.call('HGET', 'occ:delivering:' .. lane, 'since') then
      redis.call('HINCRBY', KEYS[1], 'held_back', 1)
    end
    moved = moved + 1
  else
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*', 'event', text, 'reason', 'unreadable', 'lane', '')
    set_aside = set_aside + 1
  end
end
if #entries < room then read = stream['entries-added'] elseif read then read = read + #entries end
if read then
  redis.call('XGROUP', 'SETID', KEYS[2], ARGV[2], last, 'ENTRIESREAD', read)
else
  redis.call('XGROUP', 'SETID', KEYS[2], ARGV[2], last)
end
return {moved, set_aside, missed, ''}
"""
)

# KEYS: receiver, busy, due. ARGV: now, what follows a lane, deliveries at once, lanes at most, lease, seconds until the
# others are looked at again, lanes. While the receiver fails, one lane finds out whether it still does.
START = (
    _NOW
    + """
local failures, paused_until, probe_until =
  unpack(redis.call('HMGET', KEYS[1], 'failures', 'paused_until', 'probe_until'))
local room, others = tonumber(ARGV[4]), later(ARGV[6])
if failures and tonumber(paused_until) > now then
  room, others = 0, paused_until
elseif failures then
  room = (probe_until and tonumber(probe_until) > now) and 0 or 1
elseif redis.call('ZCOUNT', KEYS[2], '(' .. later(0), '+inf') >= tonumber(ARGV[3]) then
  room = 0
end
local started = {}
for index = 7, #ARGV do
  if #started < room then
    started[#started + 1] = ARGV[index]
    if failures then redis.call('HSET', KEYS[1], 'probe', ARGV[index], 'probe_until', later(ARGV[5])) end
  else
    redis.call('ZADD', KEYS[3], 'XX', others, ARGV[index] .. ARGV[2])
  end
end
return started
"""
)

# The rest is about one lane. KEYS: receiver, busy, due, deliveries of the lane, delivering of the lane, undelivered.
# ARGV: now, lane, what follows it in the due set, owner, lease, and what each needs. Who was overtaken changes nothing.
_LANE = (
    _NOW
    + """
local receiver, busy, due, deliveries, delivering, undelivered = unpack(KEYS)
local lane, member, owner, lease = ARGV[2], ARGV[2] .. ARGV[3], ARGV[4], ARGV[5]
local function head() return redis.call('LRANGE', deliveries, 0, 0)[1] end
local function mine() return redis.call('HGET', delivering, 'owner') == owner end
local function hold()
  redis.call('HSET', delivering, 'owner', owner)
  redis.call('ZADD', busy, later(lease), lane)
  redis.call('ZADD', due, later(lease), member)
end
local function let_go(at)
  redis.call('HDEL', delivering, 'owner')
  redis.call('ZREM', busy, lane)
  redis.call('ZADD', due, at, member)
end
local function pop()
  if redis.call('HGET', delivering, 'since') then
    redis.call('HINCRBY', receiver, 'held_back', -redis.call('LLEN', deliveries))
    redis.call('HDEL', delivering, 'since', 'refusals', 'not_before')
  end
  redis.call('LTRIM', deliveries, 1, -1)
  redis.call('HINCRBY', receiver, 'waiting', -1)
end
local function go_on(more)
  local event = head()
  if not event then
    redis.call('DEL', delivering)
    redis.call('ZREM', busy, lane)
    redis.call('ZREM', due, member)
  elseif more then
    hold()
  else
    let_go(later(0))
    event = nil
  end
  return event or ''
end
local function receiver_answers()
  local since = redis.call('HGET', receiver, 'failing_since')
  redis.call('HDEL', receiver, 'failures', 'failing_since', 'paused_until', 'reason', 'probe', 'probe_until')
  return since or ''
end
local function pause(seen, reason, first, longest, asked, dice)
  local failures = redis.call('HGET', receiver, 'failures') or '0'
  if failures ~= seen then return 0 end
  local wait = math.min(tonumber(longest), first * 2 ^ math.min(tonumber(failures), 60)) * (0.5 + dice / 2)
  redis.call('HSET', receiver, 'failures', failures + 1, 'reason', reason, 'paused_until', later(math.max(wait, asked)))
  redis.call('HSETNX', receiver, 'failing_since', later(0))
  redis.call('HDEL', receiver, 'probe', 'probe_until')
  return failures + 1
end
"""
)

# Adds to ARGV: deliveries at once. Answers what is the matter, the time, the event, and how often the receiver failed.
TAKE = (
    _LANE
    + """
local failures, paused_until, probe, probe_until =
  unpack(redis.call('HMGET', receiver, 'failures', 'paused_until', 'probe', 'probe_until'))
local not_before = redis.call('HGET', delivering, 'not_before')
local holds_until = redis.call('ZSCORE', busy, lane)
local function left(why) return {why, later(0), '', '0'} end
if holds_until and tonumber(holds_until) > now then return left('taken') end
if not head() then
  go_on(false)
  return left('empty')
end
if not_before and tonumber(not_before) > now then
  redis.call('ZADD', due, not_before, member)
  return left('waits')
end
if failures and tonumber(paused_until) > now then
  redis.call('ZADD', due, paused_until, member)
  return left('paused')
end
if failures and probe ~= lane and probe_until and tonumber(probe_until) > now then
  redis.call('ZADD', due, probe_until, member)
  return left('paused')
end
if failures then redis.call('HSET', receiver, 'probe', lane, 'probe_until', later(lease)) end
if redis.call('ZCOUNT', busy, '(' .. later(0), '+inf') >= tonumber(ARGV[6]) then
  redis.call('ZADD', due, later(1), member)
  return left('busy')
end
hold()
return {'', later(0), head(), failures or '0'}
"""
)

# Adds to ARGV: whether to go on. Answers whether it counts, the time, the next event or '', since when the receiver had
# been failing.
DELIVERED = (
    _LANE
    + """
if not mine() then return {0, later(0), '', ''} end
local since = receiver_answers()
redis.call('HDEL', receiver, 'refused_in_a_row')
pop()
return {1, later(0), go_on(ARGV[6] ~= ''), since}
"""
)

# Adds to ARGV: failures as they were when this began, reason, first and longest pause, wait asked for, a number from 0
# to 1. Answers whether it counts, how often the receiver failed (0: others have told already), when the lane is due.
FAILED = (
    _LANE
    + """
if not mine() then return {0, 0, '0'} end
local failures = pause(ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11])
local at = redis.call('HGET', receiver, 'paused_until') or later(ARGV[8])
let_go(at)
return {1, failures, at}
"""
)

# Adds to ARGV: as above, then how long an event is tried, the bound of undelivered, refusals in a row that make it the
# receiver's trouble, whether to go on, the longest wait of one event. Answers whether it counts, how often this event
# was refused (0: it was set aside), when the lane is due, the time, the next event or "", how often the receiver failed
# and since when it had been failing.
REFUSED = (
    _LANE
    + """
if not mine() then return {0, 0, '0', later(0), '', 0, ''} end
local since = redis.call('HGET', delivering, 'since')
local refusals = redis.call('HINCRBY', delivering, 'refusals', 1)
if not since then
  since = later(0)
  redis.call('HSET', delivering, 'since', since)
  redis.call('HINCRBY', receiver, 'held_back', redis.call('LLEN', deliveries))
  redis.call('HINCRBY', receiver, 'refused_in_a_row', 1)
end
local failures, had_failed = 0, ''
if tonumber(redis.call('HGET', receiver, 'refused_in_a_row') or 0) >= tonumber(ARGV[14]) then
  failures = pause(ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11])
else
  had_failed = receiver_answers()
end
if now - since >= tonumber(ARGV[12]) then
  redis.call('XADD', undelivered, 'MAXLEN', '~', ARGV[13], '*', 'event', head(), 'reason', ARGV[7], 'lane', lane)
  pop()
  local event = go_on(ARGV[15] ~= '' and failures == 0)
  return {1, 0, later(0), later(0), event, failures, had_failed}
end
local wait = math.min(tonumber(ARGV[16]), ARGV[8] * 2 ^ math.min(refusals - 1, 60)) * (0.5 + ARGV[11] / 2)
local at = later(math.max(wait, ARGV[10]))
redis.call('HSET', delivering, 'not_before', at)
let_go(at)
return {1, refusals, at, later(0), '', failures, had_failed}
"""
)
