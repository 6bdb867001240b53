-- Lists a page of connections by status. Answers how many were not where they belong, and the ids of those that somebody
-- has changed since they were read: they have to be read again.
--
-- KEYS: connections, then the connection of each record.
-- ARGV: one JSON document.
--   records        merchant id, version and status of each, as it was read
--   statuses       all there are
--   after, last    the range of merchant ids that these are all of
local page = cjson.decode(ARGV[1])
local belongs, changed, corrected = {}, {}, 0
for index, record in ipairs(page.records) do
  local id, version, status = unpack(record)
  if (redis.call('HGET', KEYS[index + 1], 'version') or '0') == version then
    belongs[id] = status
    if redis.call('ZADD', 'occ:status:' .. status, 0, id) == 1 then corrected = corrected + 1 end
  else
    changed[#changed + 1] = id
    belongs[id] = ''
  end
end
for _, status in ipairs(page.statuses) do
  local key, astray = 'occ:status:' .. status, {}
  for _, id in ipairs(redis.call('ZRANGE', key, page.after, page.last, 'BYLEX')) do
    local of = belongs[id]
    if of and of ~= '' and of ~= status or not of and not redis.call('ZSCORE', KEYS[1], id) then
      astray[#astray + 1] = id
    end
  end
  for _, id in ipairs(astray) do redis.call('ZREM', key, id) end
end
return {corrected, changed}
