-- Notes that a tick begins, unless one began just now. A last tick in the future began before the clock was set back: a
-- lock that ends by that clock would hold for as long as it was set back.
--
-- KEYS: when the last tick began. ARGV: seconds.
local time = redis.call('TIME')
local now, last = time[1] + time[2] / 1000000, tonumber(redis.call('GET', KEYS[1]) or '')
if last and now >= last and now - last < tonumber(ARGV[1]) then return 0 end
-- It ends by itself for the sake of early releases, whose ticks wait until it is not there: after a rollback to one of
-- them, no tick would ever run. Nothing here is decided by it.
redis.call('SET', KEYS[1], string.format('%.6f', now), 'PX', 1000)
return 1
