-- The lease on writing to one slot of one store. The client sends a script again when the answer was lost, so either of
-- the two does the same when it comes twice.
--
-- KEYS: the lease: who holds it, or "- -", and what was written last.
-- ARGV: take, who, for how long (ms), the time. Answers whether it is theirs, or was (1 or 0), and what was written last.
-- ARGV: give_back, who, for how long what was written matters (ms), what was written or "".
--
-- Who holds it begins with the time at which that ends: the TTL would outlast it if the server's clock were set back.
local what, owner, lasts, given = unpack(ARGV)
local function parts(held) return string.match(held, '^(%S+ %S+) ?(.*)$') end
if what == 'give_back' then
  local who, last = parts(redis.call('GET', KEYS[1]) or '')
  if who ~= owner then return 0 end
  if given ~= '' then last = given end
  if last == '' then return redis.call('DEL', KEYS[1]) end
  redis.call('SET', KEYS[1], '- - ' .. last, 'PX', lasts)
  return 1
end
local held = redis.call('SET', KEYS[1], owner, 'NX', 'GET', 'PX', lasts)
if not held then return {1, ''} end
local who, last = parts(held)
if who == owner then return {1, last} end
local ends = tonumber(string.match(held, '^%S+'))
if who ~= '- -' and (not ends or tonumber(given) <= ends) then return {0, ''} end
redis.call('SET', KEYS[1], owner .. ' ' .. last, 'PX', lasts)
return {1, last}
