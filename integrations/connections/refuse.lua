-- Keeps what was wrong with a request, and reports it as an event. Answers 1 if it did, 0 if there were too many.
--
-- KEYS: refused, events, numbers.
-- ARGV: the refusal; how many are kept; the event, or '' for none; what stands in it for its sequence; how many events
-- are kept; how many refusals are reported in a minute: whoever sends wrong requests without end must not push the news
-- of merchants out of the stream.
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'refusal', ARGV[1])
if ARGV[3] == '' then return 0 end
local minute = math.floor(redis.call('TIME')[1] / 60)
local counted, reported = unpack(redis.call('HMGET', KEYS[3], 'refused_minute', 'refused_in_minute'))
if tonumber(counted) ~= minute then reported = 0 end
if tonumber(reported) >= tonumber(ARGV[6]) then return 0 end
redis.call('HSET', KEYS[3], 'refused_minute', minute, 'refused_in_minute', reported + 1)
local number = redis.call('HINCRBY', KEYS[3], 'refusals', 1)
local at, to = string.find(ARGV[3], ARGV[4], 1, true)
local event = string.sub(ARGV[3], 1, at - 1) .. string.format('%012d', number) .. string.sub(ARGV[3], to + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'event', event)
return 1
