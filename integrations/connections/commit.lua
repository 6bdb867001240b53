-- Writes a change of a connection in one piece, if its record is still as it was read. Answers 1, or where the event
-- about a new status stands in the stream; else the connection as it is now, as `records.py` reads it.
--
-- KEYS: connection, timeline, due, events, connections, connection of the former store, outage, held, access
-- token: with the application key goes what it bought.
-- ARGV: one JSON document.
--   change     id of this change: the client sends a script again when the answer was lost, and it may have worked
--   merchant_id, version, next_version   whose record, the version that was read, and the one it has afterwards
--   now        the time
--   record     the record, as it is stored
--   keys       what happens to the sealed application keys: promote, current, candidate, forget_current, forget_candidate
--   timeline, timeline_length   entries as they are stored, and about how many are kept
--   events, events_kept         likewise
--   due        members of the due set and their times; '' takes one out
--   was, is    the status under which the connection was listed, and is; '' for none
--   former     of a store that is left: its merchant_id, record, and the status it is listed under (is)
--   news       of a new status: the event, the status, the one before (was), and whether an outage holds it (trouble)
local connection, timeline, due, events, connections, former, outage, held, token = unpack(KEYS)
local commit = cjson.decode(ARGV[1])

local last_change, version, sealed_key, sealed_candidate, heard =
  unpack(redis.call('HMGET', connection, 'change', 'version', 'sealed_key', 'sealed_candidate', 'heard'))
if last_change == commit.change then return 1 end
if (version or '0') ~= commit.version then
  return redis.call('HMGET', connection, 'version', 'record', 'sealed_key', 'sealed_candidate')
end

if commit.former then
  local fields = {'version', 1, 'record', commit.former.record}
  if sealed_key then fields[5], fields[6] = 'sealed_key', sealed_key end
  redis.call('HSET', former, unpack(fields))
  redis.call('ZADD', connections, 0, commit.former.merchant_id)
end

local keys, key_after, candidate_after = commit.keys, sealed_key, sealed_candidate
if keys.promote then key_after, candidate_after = sealed_candidate or sealed_key, false end
if keys.current then key_after = keys.current end
if keys.candidate then candidate_after = keys.candidate end
if keys.forget_current then
  key_after = false
  redis.call('DEL', token)
end
if keys.forget_candidate then candidate_after = false end
local fields = {'version', commit.next_version, 'record', commit.record, 'change', commit.change}
local function keep(name, was, is)
  if is == was then return end
  if not is then return redis.call('HDEL', connection, name) end
  fields[#fields + 1], fields[#fields + 2] = name, is
end
keep('sealed_key', sealed_key, key_after)
keep('sealed_candidate', sealed_candidate, candidate_after)
redis.call('HSET', connection, unpack(fields))

for _, entry in ipairs(commit.timeline) do
  redis.call('XADD', timeline, 'MAXLEN', '~', commit.timeline_length, '*', 'entry', entry)
end

-- While an outage is on, the news of trouble is held, and so is what follows it for this merchant: the record keeps what
-- other systems last heard. Back there, there is nothing left to tell; else `held_events.py` tells it.
local news, told = commit.news, nil
if news then
  if heard == news.status then
    redis.call('HDEL', connection, 'heard')
    redis.call('ZREM', held, commit.merchant_id)
  elseif heard or (news.trouble and redis.call('HGET', outage, 'kind')) then
    if not heard then redis.call('HSET', connection, 'heard', news.was) end
    redis.call('ZADD', held, news.trouble and commit.now or 0, commit.merchant_id)
  else
    told = redis.call('XADD', events, 'MAXLEN', '~', commit.events_kept, '*', 'event', news.event)
  end
end
for _, event in ipairs(commit.events) do
  redis.call('XADD', events, 'MAXLEN', '~', commit.events_kept, '*', 'event', event)
end

local waits, over = {}, {}
for member, due_at in pairs(commit.due) do
  if due_at == '' then
    over[#over + 1] = member
  else
    waits[#waits + 1], waits[#waits + 2] = due_at, member
  end
end
if #waits > 0 then redis.call('ZADD', due, unpack(waits)) end
if #over > 0 then redis.call('ZREM', due, unpack(over)) end
if commit.version == '0' then redis.call('ZADD', connections, 0, commit.merchant_id) end

local function list(was, is, id)
  if was == is then return end
  if was ~= '' then redis.call('ZREM', 'occ:status:' .. was, id) end
  redis.call('ZADD', 'occ:status:' .. is, 0, id)
end
list(commit.was, commit.is, commit.merchant_id)
if commit.former then list('', commit.former.is, commit.former.merchant_id) end
return told or 1
