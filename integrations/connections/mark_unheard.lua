-- Events about a connection's status were lost with a failover, and somebody may have read them: its status is reported
-- once more. Its version passes theirs, so that what comes has a higher sequence.
--
-- KEYS: connection, held. ARGV: merchant id, the latest version that was lost, what stands for a status that is unknown.
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return 0 end
local beyond = math.max(tonumber(version), tonumber(ARGV[2])) + 1
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', beyond), 'heard', ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
