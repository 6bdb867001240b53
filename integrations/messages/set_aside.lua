-- Sets a message aside. When there are too many, the oldest of the source with the most gives way: no source can push out
-- what others have there.
--
-- KEYS: quarantine, how many by source. ARGV: message as it is stored, its source, how many at most. The source is a
-- part of each stored message.
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
local over = redis.call('LLEN', KEYS[1]) - ARGV[3]
while over > 0 do
  local counts, most, count, known = redis.call('HGETALL', KEYS[2]), nil, 0, 0
  for index = 1, #counts, 2 do
    known = known + counts[index + 1]
    if tonumber(counts[index + 1]) > count then most, count = counts[index], tonumber(counts[index + 1]) end
  end
  -- Some were set aside by a release that did not count: they are the oldest.
  local oldest = known < redis.call('LLEN', KEYS[1]) and redis.call('LTRIM', KEYS[1], 0, -2)
  local place = -1
  while most and not oldest do
    local message = redis.call('LINDEX', KEYS[1], place)
    if not message then -- the counts are wrong: somebody else has taken messages out
      redis.call('HDEL', KEYS[2], most)
      break
    elseif string.find(string.sub(message, 1, 2048), most, 1, true) then
      oldest = message
      redis.call('LREM', KEYS[1], -1, message)
      if redis.call('HINCRBY', KEYS[2], most, -1) <= 0 then redis.call('HDEL', KEYS[2], most) end
    end
    place = place - 1
  end
  if oldest then over = over - 1 end
end
return 1
