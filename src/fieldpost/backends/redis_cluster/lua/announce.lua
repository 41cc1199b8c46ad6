-- Writes an instance down and drops those that are gone. KEYS[1] the registry; ARGV: id, description, time to live in ms.
-- One hash without an expiry, so that it is never evicted; each field begins with its deadline in ms, 15 digits.
-- A field that does not is none of ours, and goes too: nobody could be written down beside it otherwise.
local digits = '^' .. string.rep('%d', 15)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  if tonumber(string.match(fields[i + 1], digits) or 0) <= now then
    redis.call('HDEL', KEYS[1], fields[i])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%015.0f', now + ARGV[3]) .. ARGV[2])
return 1
