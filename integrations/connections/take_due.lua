-- Due work, put off meanwhile: two ticks never get the same member.
--
-- KEYS: due. ARGV: how many at most, how long to put them off (seconds), the time.
local now = ARGV[3]
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local put_off = string.format('%.6f', now + ARGV[2])
for _, member in ipairs(members) do redis.call('ZADD', KEYS[1], put_off, member) end
return {put_off, members}
