-- Gives a lease up if it is the holder's. KEYS[1] the lease; ARGV: holder.
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
