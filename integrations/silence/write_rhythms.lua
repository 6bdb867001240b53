-- Writes what was heard of slots. Answers the numbers of those that somebody else has changed meanwhile.
--
-- KEYS: listening, merchants of this hour, then a hash per merchant. ARGV: milliseconds to keep the hour, then per
-- slot: number of its hash, merchant id, slot, text as it was read, text from now on, when it counts as silent or "",
-- 1 if it was just heard from.
local lost = {}
for index = 2, #ARGV, 7 do
  local key, merchant, slot = KEYS[ARGV[index] + 2], ARGV[index + 1], ARGV[index + 2]
  if (redis.call('HGET', key, slot) or '') ~= ARGV[index + 3] then
    lost[#lost + 1] = (index - 2) / 7
  else
    if ARGV[index + 4] ~= ARGV[index + 3] then redis.call('HSET', key, slot, ARGV[index + 4]) end
    if ARGV[index + 5] ~= '' then redis.call('ZADD', KEYS[1], 'LT', ARGV[index + 5], merchant) end
    if ARGV[index + 6] == '1' and redis.call('PFADD', KEYS[2], merchant) == 1 then
      redis.call('PEXPIRE', KEYS[2], ARGV[1])
    end
  end
end
return lost
