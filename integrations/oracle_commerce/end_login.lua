-- Gives the right to log in back, and leaves what was bought for all workers. Who held it for too long changes nothing:
-- the lock is its successor's, and the token of that one is the newer one.
--
-- KEYS: token, lock. ARGV: who held it, the token (JSON) or "", its lifetime in ms.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return redis.call('DEL', KEYS[2])
