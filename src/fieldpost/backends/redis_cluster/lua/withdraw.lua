-- Takes an instance off. KEYS[1] the registry; ARGV: id.
return redis.call('HDEL', KEYS[1], ARGV[1])
