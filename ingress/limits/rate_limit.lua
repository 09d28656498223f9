-- Generic cell rate algorithm, for all windows of one request: counted in every one, or in none.
-- KEYS: a key for each window; it holds the microsecond at which that bucket is empty again.
-- ARGV: for each window the microseconds between requests, the quota, and what this request takes.
-- Returns allowed (1 or 0), then for each window what remains of its quota, the microseconds until
-- as much as was asked for is allowed, and those until the whole quota is there again.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local allowed = 1
local empty_at, answer = {}, {1}
for n = 1, #KEYS do
    local interval, quota = tonumber(ARGV[3 * n - 2]), tonumber(ARGV[3 * n - 1])
    empty_at[n] = math.max(tonumber(redis.call('GET', KEYS[n]) or now), now)
    local wait = empty_at[n] + interval * tonumber(ARGV[3 * n]) - now - interval * quota
    answer[3 * n] = math.max(wait, 0)
    if wait > 0 then
        allowed = 0
    end
end
for n = 1, #KEYS do
    local interval, quota = tonumber(ARGV[3 * n - 2]), tonumber(ARGV[3 * n - 1])
    if allowed == 1 then
        empty_at[n] = empty_at[n] + interval * tonumber(ARGV[3 * n])
        local alive_ms = math.ceil((empty_at[n] - now) / 1000) + 1000
        redis.call('SET', KEYS[n], string.format('%.0f', empty_at[n]), 'PX', alive_ms)
    end
    answer[3 * n - 1] = math.floor((interval * quota - (empty_at[n] - now)) / interval)
    answer[3 * n + 1] = empty_at[n] - now
end
answer[1] = allowed
return answer
