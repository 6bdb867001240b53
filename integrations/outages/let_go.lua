-- Reports or drops a merchant's held news. If the record changed meanwhile, or
-- its news was reported, nothing is left to do.
--
-- KEYS: connection, held, events. ARGV: version and status heard as they were read, merchant id, event or "", bound.
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[1], 'heard') or '') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'heard')
redis.call('ZREM', KEYS[2], ARGV[3])
if ARGV[4] ~= '' then redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'event', ARGV[4]) end
return 1
