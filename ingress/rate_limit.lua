-- Generic cell rate algorithm: one key holds the moment at which the client's bucket is empty again.
-- KEYS[1]: the client; ARGV[1]: microseconds between requests; ARGV[2]: the burst in requests.
-- Returns allowed (1 or 0), what remains of the burst, and microseconds until the next request.
local interval = tonumber(ARGV[1])
local tolerance = interval * tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local empty_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local next_empty_at = empty_at + interval
if next_empty_at - now > tolerance then
    return {0, 0, next_empty_at - now - tolerance}
end
redis.call('SET', KEYS[1], string.format('%.0f', next_empty_at), 'PX', math.ceil(tolerance / 1000) + 1000)
return {1, math.floor((tolerance - (next_empty_at - now)) / interval), 0}
