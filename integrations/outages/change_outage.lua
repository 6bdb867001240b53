-- Begins or ends an outage and reports it. Of several that have decided at once, one does.
--
-- KEYS: outage, events. ARGV: number as it was read, event, bound, fields and values of the outage from now on.
if (redis.call('HGET', KEYS[1], 'number') or '0') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[2])
return 1
