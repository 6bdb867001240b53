-- Puts work off for longer. Members that a worker has moved since are its business.
--
-- KEYS: due. ARGV: the time the members were put off to, how long to put them off now (seconds), the time,
-- members.
local later = string.format('%.6f', ARGV[3] + ARGV[2])
for index = 4, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[index])
  if score and tonumber(score) == tonumber(ARGV[1]) then redis.call('ZADD', KEYS[1], later, ARGV[index]) end
end
