-- Writes what is known of a request under its id, if what is known already does not stand.
--
-- KEYS: requests, times. ARGV: how to write ("claim", "refuse" or "settle"), the hash of the id, the request, for how
-- many seconds and how many of them to remember, how many to forget at once. Answers what is known of the id, if that
-- stands. What was refused stands in nobody's way. What is being taken or waits may be taken again if it is the same.
local time = redis.call('TIME')
local now, keep = time[1] + time[2] / 1000000, tonumber(ARGV[4])
local known = redis.call('HGET', KEYS[1], ARGV[2])
if known and ARGV[1] ~= 'settle' then
  local was, is = cjson.decode(known), cjson.decode(ARGV[3])
  local open = was.outcome == 'taking' or was.outcome == 'scheduled'
  local same = was.digest == is.digest or (ARGV[1] == 'refuse' and is.digest == '')
  local stands = was.outcome ~= 'refused' and not (open and same)
  if stands and (tonumber(redis.call('ZSCORE', KEYS[2], ARGV[2])) or 0) > now - keep then return known end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%.6f', now), ARGV[2])
local function forget(hashes)
  for _, hash in ipairs(hashes) do
    redis.call('HDEL', KEYS[1], hash)
    redis.call('ZREM', KEYS[2], hash)
  end
end
forget(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - keep, 'LIMIT', 0, ARGV[6]))
local over = redis.call('ZCARD', KEYS[2]) - ARGV[5]
if over > 0 then forget(redis.call('ZRANGE', KEYS[2], 0, math.min(over, ARGV[6]) - 1)) end
redis.call('PEXPIRE', KEYS[1], keep * 1000)
redis.call('PEXPIRE', KEYS[2], keep * 1000)
return ''
