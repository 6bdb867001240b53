-- How many merchants' keys were accepted, and how many refused, since a moment.
--
-- KEYS: accepted, refused. ARGV: since when, a merchant to leave out or "".
local counts = {}
for index, key in ipairs(KEYS) do
  counts[index] = redis.call('ZCOUNT', key, '(' .. ARGV[1], '+inf')
  local own = ARGV[2] ~= '' and redis.call('ZSCORE', key, ARGV[2])
  if own and tonumber(own) > tonumber(ARGV[1]) then counts[index] = counts[index] - 1 end
end
return counts
