-- Takes a message out of the quarantine.
--
-- KEYS: quarantine, how many by source. ARGV: message as it is stored, its source.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HINCRBY', KEYS[2], ARGV[2], -1) <= 0 then redis.call('HDEL', KEYS[2], ARGV[2]) end
return 1
