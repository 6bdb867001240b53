-- Puts a re-sealed key in place of the one that was read; one that came meanwhile stays. The record's version
-- stays too: a run under way need not notice, the application key inside is the same.
--
-- KEYS: connection. ARGV: field, sealed key as it was read, what takes its place.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
