-- Reports that many are silent, or no longer. Of several that have decided at once, one does.
--
-- KEYS: outage, events, many. ARGV: number of the last operator event as it was read, event, bound, since when many are
-- silent, or "" if they no longer are.
if (redis.call('HGET', KEYS[1], 'number') or '0') ~= ARGV[1] then return 0 end
if (redis.call('EXISTS', KEYS[3]) == 1) == (ARGV[4] ~= '') then return 0 end
redis.call('HINCRBY', KEYS[1], 'number', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[2])
if ARGV[4] == '' then redis.call('DEL', KEYS[3]) else redis.call('HSET', KEYS[3], 'since', ARGV[4]) end
return 1
