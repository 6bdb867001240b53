-- Gives a message back from `unacked` to its queue, at once; if it is no longer there, somebody else has.
--
-- KEYS: unacked, its index, the queue. ARGV: the tag under which it is filed, the message, the command: which end.
if redis.call('HGET', KEYS[1], ARGV[1]) then
  redis.call(ARGV[3], KEYS[3], ARGV[2])
  redis.call('HDEL', KEYS[1], ARGV[1])
end
redis.call('ZREM', KEYS[2], ARGV[1])
