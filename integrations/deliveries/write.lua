-- Writes what Python decided, if what it was decided on still stands. Answers 1, or 0: read and decide again.
--
-- KEYS: receiver, busy, due; for one outbox also its events, its delivery, undelivered.
-- ARGV: one JSON document. In every map of fields or scores, "" stands for "is not there".
--   expect     receiver and delivery: fields as they were read; events: how many there were
--   busy_below, now   fewer outboxes than this are being delivered now
--   receiver, delivery   fields to set
--   add        fields of the receiver and what to add to each
--   busy, due  scores to set; put_off: the same for members that are still due
--   removes    the oldest event leaves; set_aside: with these fields, for the operator
local receiver, busy, due, events, delivery, undelivered = unpack(KEYS)
local write = cjson.decode(ARGV[1])

local function stands(key, fields)
  for field, value in pairs(fields or {}) do
    if (redis.call('HGET', key, field) or '') ~= value then return false end
  end
  return true
end
local function set_fields(key, fields)
  for field, value in pairs(fields or {}) do
    if value == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, value) end
  end
end
local function set_scores(key, scores)
  for member, score in pairs(scores or {}) do
    if score == '' then redis.call('ZREM', key, member) else redis.call('ZADD', key, score, member) end
  end
end

if not stands(receiver, write.expect.receiver) or not stands(delivery, write.expect.delivery) then return 0 end
if write.expect.events and redis.call('LLEN', events) ~= write.expect.events then return 0 end
if write.busy_below and redis.call('ZCOUNT', busy, '(' .. write.now, '+inf') >= write.busy_below then return 0 end

if write.set_aside then
  local reason, lane = write.set_aside.reason, write.set_aside.lane
  local event = redis.call('LINDEX', events, 0)
  redis.call('XADD', undelivered, 'MAXLEN', '~', write.set_aside.kept, '*',
    'event', event, 'reason', reason, 'lane', lane)
end
if write.removes then redis.call('LTRIM', events, 1, -1) end
for field, number in pairs(write.add or {}) do redis.call('HINCRBY', receiver, field, number) end
set_fields(receiver, write.receiver)
set_fields(delivery, write.delivery)
set_scores(busy, write.busy)
set_scores(due, write.due)
for member, score in pairs(write.put_off or {}) do redis.call('ZADD', due, 'XX', score, member) end
return 1
