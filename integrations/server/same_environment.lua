-- KEYS[1]: the sealing keys this database was used with. ARGV: those of a worker that starts. Returns the others, if none of its
-- own is among them; else adds its own and returns nothing.
local known = redis.call('SMEMBERS', KEYS[1])
local ours = {}
for _, key in ipairs(ARGV) do
  ours[key] = true
end
local met = #known == 0
for _, key in ipairs(known) do
  met = met or ours[key] ~= nil
end
if not met then
  return known
end
redis.call('SADD', KEYS[1], unpack(ARGV))
return {}
