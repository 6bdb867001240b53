-- Forgets the record of a former store, unless somebody has changed it since it was read.
--
-- KEYS: connection, timeline, access token, connections, those with this status. ARGV: version read, id of the record.
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('ZREM', KEYS[5], ARGV[2])
return 1
