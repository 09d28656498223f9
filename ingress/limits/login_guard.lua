-- One attempt to log in: counted on its account and on its address, or refused by either.
-- KEYS: the account's attempts, the address's, the mark that this address is known to the account,
-- and the attempts from there, which then take the place of the account's.
-- ARGV: for the account and then for the address the attempts that are free and the first delay;
-- then the longest delay and how long attempts are remembered. All times are milliseconds.
-- Returns the milliseconds to wait; 0: the attempt may be made, and is counted.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local account = KEYS[1]
if redis.call('EXISTS', KEYS[3]) == 1 then
    account = KEYS[4]
end
local wait = 0
for _, key in ipairs({account, KEYS[2]}) do
    wait = math.max(wait, tonumber(redis.call('HGET', key, 'until') or 0) - now)
end
if wait > 0 then
    return wait
end
local longest, memory = tonumber(ARGV[5]), tonumber(ARGV[6])
for n, key in ipairs({account, KEYS[2]}) do
    local free, first = tonumber(ARGV[2 * n - 1]), tonumber(ARGV[2 * n])
    local attempts = redis.call('HINCRBY', key, 'attempts', 1)
    if attempts >= free then
        -- Beyond 2^30 a power would be no whole number any more.
        local delay = math.min(first * 2 ^ math.min(attempts - free, 30), longest)
        redis.call('HSET', key, 'until', string.format('%.0f', now + delay))
    end
    redis.call('PEXPIRE', key, memory)
end
return 0
