-- Merchants whose held news is to be judged, put off meanwhile; and whether to try one of them now. Times go as
-- text: a number would lose its fraction.
--
-- KEYS: held, outage. ARGV: how many at most, how long to put them off while an outage is on and afterwards, seconds
-- between probes, the time.
local now = tonumber(ARGV[5])
local kind, ended_at, probed_at = unpack(redis.call('HMGET', KEYS[2], 'kind', 'ended_at', 'probed_at'))
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local again = string.format('%.6f', now + (kind and ARGV[2] or ARGV[3]))
for _, member in ipairs(members) do redis.call('ZADD', KEYS[1], again, member) end
local probe = 0
if kind and #members > 0 and now - (probed_at or 0) >= tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[2], 'probed_at', string.format('%.6f', now))
  probe = 1
end
return {kind and 1 or 0, ended_at or '0', probe, members}
