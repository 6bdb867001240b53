-- Takes a due time out, unless the record changed meanwhile: then that change saw to its due times.
--
-- KEYS: connection, due. ARGV: version read, member.
if (redis.call('HGET', KEYS[1], 'version') or '0') == ARGV[1] then return redis.call('ZREM', KEYS[2], ARGV[2]) end
return 0
