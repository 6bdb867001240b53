-- The run each connection is at, 0 for none. The run stands in the record as "run":1; no merchant id or host, which come
-- before it, has quotes.
--
-- KEYS: connections.
local runs = {}
for index, key in ipairs(KEYS) do
  local record = redis.call('HGET', key, 'record')
  runs[index] = record and tonumber(string.match(record, '"run":(%d+)')) or 0
end
return runs
