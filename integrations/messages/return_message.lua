-- Sends a message from the quarantine back where it came from. Two operators who return the same message do it once.
--
-- KEYS: quarantine, where it goes, how many by source. ARGV: message as stored, message as it came, field of a stream or
-- "" for a list, source.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HINCRBY', KEYS[3], ARGV[4], -1) <= 0 then redis.call('HDEL', KEYS[3], ARGV[4]) end
if ARGV[3] ~= '' then return redis.call('XADD', KEYS[2], '*', ARGV[3], ARGV[2]) end
return redis.call('LPUSH', KEYS[2], ARGV[2])
