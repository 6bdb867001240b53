-- Writes a change of a connection in one piece, if its record is still as it was read. Answers 1, or 0: read it again.
--
-- KEYS: connection, timeline, due, events, connections, connection of the former store, outage, held, statuses, recount,
-- access token: with the application key goes what it bought.
-- ARGV: one JSON document.
--   change     id of this change: the client sends a script again when the answer was lost, and it may have worked
--   merchant_id, version   whose record, and the version that was read
--   record     the record, as it is stored
--   keys       what happens to the sealed application keys: promote, current, candidate, forget_current, forget_candidate
--   timeline, timeline_length   entries as they are stored, and about how many are kept
--   events, events_kept         likewise
--   due        members of the due set and their times; '' takes one out
--   was, is    the status the connection was counted as, and is; '' for none
--   former     of a store that is left: its merchant_id, record, and the status it is counted as (is)
--   news       of a new status: the event, the status, the one before (was), and whether an outage holds it (trouble)
local connection, timeline, due, events, connections, former, outage, held, statuses, recount, token = unpack(KEYS)
local commit = cjson.decode(ARGV[1])

local last_change, version, sealed_key, sealed_candidate, heard =
  unpack(redis.call('HMGET', connection, 'change', 'version', 'sealed_key', 'sealed_candidate', 'heard'))
if last_change == commit.change then return 1 end
if (version or '0') ~= commit.version then return 0 end
redis.call('HSET', connection, 'version', commit.version + 1, 'record', commit.record, 'change', commit.change)

if commit.former then
  redis.call('HSET', former, 'version', 1, 'record', commit.former.record)
  if sealed_key then redis.call('HSET', former, 'sealed_key', sealed_key) end
  redis.call('ZADD', connections, 0, commit.former.merchant_id)
end

local keys = commit.keys
if keys.promote then
  if sealed_candidate then redis.call('HSET', connection, 'sealed_key', sealed_candidate) end
  redis.call('HDEL', connection, 'sealed_candidate')
end
if keys.current then redis.call('HSET', connection, 'sealed_key', keys.current) end
if keys.candidate then redis.call('HSET', connection, 'sealed_candidate', keys.candidate) end
if keys.forget_current then
  redis.call('HDEL', connection, 'sealed_key')
  redis.call('DEL', token)
end
if keys.forget_candidate then redis.call('HDEL', connection, 'sealed_candidate') end

for _, entry in ipairs(commit.timeline) do
  redis.call('XADD', timeline, 'MAXLEN', '~', commit.timeline_length, '*', 'entry', entry)
end

-- While an outage is on, the news of trouble is held, and so is what follows it for this merchant: the record keeps what
-- other systems last heard. Back there, there is nothing left to tell; else `held_events.py` tells it.
local news = commit.news
if news then
  if heard == news.status then
    redis.call('HDEL', connection, 'heard')
    redis.call('ZREM', held, commit.merchant_id)
  elseif heard or (news.trouble and redis.call('HGET', outage, 'kind')) then
    if not heard then redis.call('HSET', connection, 'heard', news.was) end
    redis.call('ZADD', held, news.trouble and redis.call('TIME')[1] or 0, commit.merchant_id)
  else
    redis.call('XADD', events, 'MAXLEN', '~', commit.events_kept, '*', 'event', news.event)
  end
end
for _, event in ipairs(commit.events) do
  redis.call('XADD', events, 'MAXLEN', '~', commit.events_kept, '*', 'event', event)
end

for member, due_at in pairs(commit.due) do
  if due_at == '' then redis.call('ZREM', due, member) else redis.call('ZADD', due, due_at, member) end
end
if commit.version == '0' then redis.call('ZADD', connections, 0, commit.merchant_id) end

-- Who counts anew has come as far as `recounted_to`: what changes up to there is counted there too.
local function count(was, is, id)
  if was == is then return end
  local had, has, up_to = unpack(redis.call('HMGET', statuses, was, is, 'recounted_to'))
  local again = up_to and redis.call('ZLEXCOUNT', connections, '[' .. id, '[' .. up_to) > 0
  local counts = {is, (has or 0) + 1}
  if was ~= '' then counts[3], counts[4] = was, (had or 0) - 1 end
  redis.call('HSET', statuses, unpack(counts))
  if again then redis.call('HINCRBY', recount, is, 1) end
  if again and was ~= '' then redis.call('HINCRBY', recount, was, -1) end
end
count(commit.was, commit.is, commit.merchant_id)
if commit.former then count('', commit.former.is, commit.former.merchant_id) end
return 1
