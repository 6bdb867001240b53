-- Counts the outcome of one attempt at a store, and what a login has said of the merchant's key.
--
-- KEYS: the set of merchants that the login puts this one into and the one it takes it out of, if there was a login.
-- ARGV: merchant id, seconds of a bucket, milliseconds to keep it, how many merchants a set holds, the time, what the
-- attempt counts as.
local now = tonumber(ARGV[5])
local bucket = math.floor(now / ARGV[2])
for index = 6, #ARGV do
  local key = string.format('occ:outcomes:%.0f:%s', bucket, ARGV[index])
  if redis.call('PFADD', key, ARGV[1]) == 1 then redis.call('PEXPIRE', key, ARGV[3]) end
end
if #KEYS == 0 then return end
if redis.call('ZADD', KEYS[1], string.format('%.6f', now), ARGV[1]) == 1 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], 86400000)
