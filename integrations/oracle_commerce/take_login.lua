-- The access token of a merchant, if it was bought after a moment, else the right to buy one, for one lease. The client
-- sends a script again when the answer was lost: what was theirs still is.
--
-- KEYS: token, lock. ARGV: the moment, who asks, how long the lease is (ms), a lock taken before when is over. Answers
-- the token, or 1 or 0: whether the lock is theirs.
--
-- Who holds the lock begins with the time it was taken: the TTL would outlast the lease if the server's clock were set
-- back.
local stored = redis.call('GET', KEYS[1])
if stored and cjson.decode(stored).issued_at > tonumber(ARGV[1]) then return stored end
local held = redis.call('SET', KEYS[2], ARGV[2], 'NX', 'GET', 'PX', ARGV[3])
if not held or held == ARGV[2] then return 1 end
local taken_at = tonumber(string.match(held, '^(%S+) '))
if not taken_at or taken_at >= tonumber(ARGV[4]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
