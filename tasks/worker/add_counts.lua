-- Adds to totals: two commands whatever the number of fields.
--
-- KEYS: totals. ARGV: field, what to add, field, ...
local fields = {}
for index = 1, #ARGV, 2 do fields[#fields + 1] = ARGV[index] end
local totals = redis.call('HMGET', KEYS[1], unpack(fields))
local written = {}
for index, field in ipairs(fields) do
  written[#written + 1] = field
  written[#written + 1] = string.format('%.0f', (totals[index] or 0) + ARGV[2 * index])
end
redis.call('HSET', KEYS[1], unpack(written))
