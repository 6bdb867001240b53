-- Moves new events from the stream into their outboxes. Answers how many, how many were set aside as unreadable, how
-- many were trimmed away before, and, the very first time, the event after which deliveries begin.
--
-- KEYS: receiver, events, due, undelivered. ARGV: the time, or 0 for the server's own; group; events at most; how many
-- may wait; bound of undelivered; outbox of operators; what follows an outbox in the due set; outbox of
-- refused requests.
--
-- The group's position is moved last: whatever goes wrong before, the same events come again. An outbox that is held
-- back by an event of its own does not count as waiting, or one merchant's trouble would be everybody's.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local due_now = string.format('%.6f', now) -- a number would lose its fraction
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
  local outbox
  if ok and type(event) == 'table' and type(event.id) == 'string' and type(event.type) == 'string'
    and #event.id <= 256 and string.find(event.id, '^[!-~]+$') then
    if string.sub(event.type, 1, 13) == 'occ.operator.' then
      outbox = ARGV[6]
    elseif string.sub(event.type, 1, 12) == 'occ.request.' then
      outbox = ARGV[8]
    elseif type(event.subject) == 'string' and #event.subject <= 128 and string.find(event.subject, '^[%w._~-]+$') then
      outbox = event.subject
    end
  end
  if outbox then
    redis.call('RPUSH', 'occ:deliveries:' .. outbox, text)
    redis.call('ZADD', KEYS[3], 'NX', due_now, outbox .. ARGV[7])
    redis.call('HINCRBY', KEYS[1], 'waiting', 1)
    if redis.call('HGET', 'occ:delivering:' .. outbox, 'since') then
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
