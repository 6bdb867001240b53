-- KEYS: when a tick ended well.
local time = redis.call('TIME')
redis.call('SET', KEYS[1], string.format('%.6f', time[1] + time[2] / 1000000))
