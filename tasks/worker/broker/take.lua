-- Takes a message out of the first queue that has one and files it in `unacked`, at once: it is never nowhere. A full
-- server refuses before anything has moved.
--
-- KEYS: unacked, its index, the queue of steps, then the queues in the order in which they are looked at.
-- ARGV: the tag under which it is filed, our time, then for each queue how an entry of `unacked` from there ends.
-- Returns the number of the queue, the message, whether there may be more, and how many steps wait; or nothing.
for index = 4, #KEYS do
  local message = redis.call('LINDEX', KEYS[index], -1)
  if message then
    redis.call('HSET', KEYS[1], ARGV[1], '[' .. message .. ARGV[index - 1])
    redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
    redis.call('LTRIM', KEYS[index], 0, -2) -- this one
    return {index - 4, message, redis.call('EXISTS', unpack(KEYS, 4)), redis.call('LLEN', KEYS[3])}
  end
end
