-- Generic cell rate algorithm, for a group of requests: each is counted in all of its windows or in
-- none.
-- KEYS: a key for each window of each request; it holds the microsecond at which that bucket is
-- empty again. ARGV[1], in words: for each request the number of its windows, and for each of these
-- the microseconds between requests, the quota, and what the request takes.
-- Returns, in words, for each request allowed (1 or 0), and for each of its windows what remains of
-- the quota, the microseconds until as much as was asked for is allowed, and those until the whole
-- quota is there again.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local given, answer, key = {}, {}, 0
for word in string.gmatch(ARGV[1], '%d+') do
    given[#given + 1] = tonumber(word)
end
local place = 1
while place <= #given do
    local windows, allowed, empty_at, waits = given[place], 1, {}, {}
    for n = 1, windows do
        local interval, quota, cost = given[place + 3 * n - 2], given[place + 3 * n - 1], given[place + 3 * n]
        empty_at[n] = math.max(tonumber(redis.call('GET', KEYS[key + n]) or now), now)
        waits[n] = math.max(empty_at[n] + interval * cost - now - interval * quota, 0)
        if waits[n] > 0 then
            allowed = 0
        end
    end
    answer[#answer + 1] = allowed
    for n = 1, windows do
        local interval, quota, cost = given[place + 3 * n - 2], given[place + 3 * n - 1], given[place + 3 * n]
        if allowed == 1 then
            empty_at[n] = empty_at[n] + interval * cost
            local alive_ms = math.ceil((empty_at[n] - now) / 1000) + 1000
            redis.call('SET', KEYS[key + n], string.format('%.0f', empty_at[n]), 'PX', alive_ms)
        end
        local full = empty_at[n] - now
        local left = math.floor((interval * quota - full) / interval)
        answer[#answer + 1] = string.format('%.0f %.0f %.0f', left, waits[n], full)
    end
    key, place = key + windows, place + 3 * windows + 1
end
return table.concat(answer, ' ')
