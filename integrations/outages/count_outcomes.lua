-- What there is to judge an outage by: how many merchants' news is held, the state, the counts, what logins
-- said of keys.
--
-- KEYS: outage, held, accepted, refused (merchants by what a login said of their keys), connections.
-- ARGV: seconds of a bucket, how many lie behind the current one in the window and in its latest part, the time,
-- what to count.
local now = tonumber(ARGV[4])
local bucket = math.floor(now / ARGV[1])
local counts = {}
for _, behind in ipairs({ARGV[2], ARGV[3]}) do
  for index = 5, #ARGV do
    local keys = {}
    -- The next one too: a process that was held up may be seconds behind those that have noted outcomes.
    for number = bucket - behind, bucket + 1 do
      keys[#keys + 1] = string.format('occ:outcomes:%.0f:%s', number, ARGV[index])
    end
    counts[#counts + 1] = redis.call('PFCOUNT', unpack(keys))
  end
end
local state = redis.call('HMGET', KEYS[1], 'number', 'ended_at', 'kind', 'since', 'share', 'failing', 'asked')
local since = '(' .. string.format('%.6f', now - ARGV[1] * ARGV[2])
local tried = {redis.call('ZCOUNT', KEYS[3], since, '+inf'), redis.call('ZCOUNT', KEYS[4], since, '+inf')}
tried[3], tried[4] = redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5])
return {redis.call('ZCARD', KEYS[2]), state, counts, tried}
