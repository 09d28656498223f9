-- A login that succeeded: its account's attempts are forgotten, and its address's one less.
-- KEYS: as for login_guard.lua; ARGV[1]: milliseconds for which the address stays known.
local account = KEYS[1]
if redis.call('EXISTS', KEYS[3]) == 1 then
    account = KEYS[4]
end
redis.call('DEL', account)
if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('HDEL', KEYS[2], 'until')
    if redis.call('HINCRBY', KEYS[2], 'attempts', -1) <= 0 then
        redis.call('DEL', KEYS[2])
    end
end
redis.call('SET', KEYS[3], 1, 'PX', ARGV[1])
return 0
