-- The descriptions of all instances that are there. KEYS[1] the registry. A field without a deadline is none: see announce.
local digits = '^' .. string.rep('%d', 15)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local present = {}
for _, field in ipairs(redis.call('HVALS', KEYS[1])) do
  if tonumber(string.match(field, digits) or 0) > now then
    present[#present + 1] = string.sub(field, 16)
  end
end
return present
