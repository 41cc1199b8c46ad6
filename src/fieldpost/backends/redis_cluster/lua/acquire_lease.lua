-- Takes or renews a lease. KEYS[1] the lease; ARGV: holder, time to live in ms. Returns 1 if it is the holder's now.
-- The deadline is a field and not the key's expiry: keys that expire may be evicted when memory runs out, others never.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local current = redis.call('HMGET', KEYS[1], 'holder', 'until')
if current[1] and current[1] ~= ARGV[1] and tonumber(current[2]) > now then
  return 0
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]))
return 1
