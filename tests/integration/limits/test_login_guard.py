"""The login guard: attempts wait, on the account and on the address; nobody is locked out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from contracts.problems import ContractError, ProblemCode
from ingress.limits.limiter import RateLimitedError
from ingress.limits.login_guard import LoginGuard, Slowing, keys_of
from tests.integration.reconciler.serving import running
from tests.support import eventually

Guarded = Callable[[Slowing], Awaitable[LoginGuard]]
MINUTE_MS = 60_000
_SLOW = Slowing(account_free=3, account_first_ms=MINUTE_MS, address_free=1000)
_FAST = _SLOW._replace(account_first_ms=100, longest_ms=400)


def _email() -> str:
    return f"p{uuid4().hex}@example.com"


def _address() -> str:
    return f"host-{uuid4().hex}"


@pytest.fixture
async def guarded(redis: Redis) -> AsyncIterator[Guarded]:
    """Make guards that run until the test's end."""
    async with AsyncExitStack() as guards:

        async def make(slowing: Slowing) -> LoginGuard:
            guard = LoginGuard(redis, slowing)
            await guards.enter_async_context(running(guard))
            return guard

        yield make


async def _is_slowed(guard: LoginGuard, email: str, address: str) -> bool:
    try:
        await guard.before(email, address)
    except RateLimitedError:
        return True
    return False


async def test_an_account_waits_after_the_free_attempts_whatever_the_addresses(
    guarded: Guarded,
) -> None:
    guard, email = await guarded(_SLOW), _email()
    found = [await _is_slowed(guard, email, _address()) for _ in range(5)]
    with pytest.raises(RateLimitedError) as refused:
        await guard.before(email.upper() + " ", _address())

    assert found == [False] * 3 + [True] * 2
    assert 58 <= int(refused.value.headers["Retry-After"]) <= 60
    assert not await _is_slowed(guard, _email(), _address())


async def test_an_address_waits_whatever_the_accounts(guarded: Guarded) -> None:
    slowing = Slowing(address_free=4, address_first_ms=MINUTE_MS)
    guard, address = await guarded(slowing), _address()
    found = [await _is_slowed(guard, _email(), address) for _ in range(6)]

    assert found == [False] * 4 + [True] * 2


async def test_of_attempts_of_one_instant_only_the_free_ones_are_made(guarded: Guarded) -> None:
    guard, email = await guarded(_SLOW), _email()
    found = await asyncio.gather(*(_is_slowed(guard, email, _address()) for _ in range(40)))

    assert found.count(False) == 3


async def _clock_ms(redis: Redis) -> int:
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def test_the_wait_doubles_with_each_attempt_up_to_a_bound(
    redis: Redis, guarded: Guarded
) -> None:
    guard, email, address = await guarded(_FAST), _email(), _address()
    account = keys_of(email, address)[0]

    begun = 0

    async def is_made() -> bool:
        nonlocal begun
        begun = await _clock_ms(redis)
        return not await _is_slowed(guard, email, address)

    for delay_ms in (0, 0, 100, 200, 400, 400):
        await eventually(is_made, what="the wait is over")
        ended = await _clock_ms(redis)
        until = await redis.hget(account, "until")
        if delay_ms:
            assert until is not None
            assert begun + delay_ms <= int(until) <= ended + delay_ms
        else:
            assert until is None


async def test_a_login_forgets_the_account_s_attempts(guarded: Guarded) -> None:
    guard, email, address = await guarded(_SLOW), _email(), _address()
    for _ in range(4):
        for _ in range(2):
            await guard.before(email, address)
            await guard.failed(email, address)
        await guard.before(email, address)
        await guard.succeeded(email, address)


async def test_logins_do_not_use_up_their_address(guarded: Guarded) -> None:
    slowing = Slowing(address_free=3, address_first_ms=MINUTE_MS)
    guard, address = await guarded(slowing), _address()
    for _ in range(10):
        email = _email()
        await guard.before(email, address)
        await guard.succeeded(email, address)
    found = [await _is_slowed(guard, _email(), address) for _ in range(4)]

    assert found == [False] * 3 + [True]


async def test_a_stranger_s_guesses_keep_nobody_out_who_comes_from_where_they_did_before(
    guarded: Guarded,
) -> None:
    guard, email, home = await guarded(_SLOW), _email(), _address()
    await guard.before(email, home)
    await guard.succeeded(email, home)
    found = [await _is_slowed(guard, email, _address()) for _ in range(10)]
    await guard.before(email, home)
    await guard.succeeded(email, home)

    assert found == [False] * 3 + [True] * 7
    assert await _is_slowed(guard, email, _address())


async def test_guesses_from_a_known_address_are_slowed_all_the_same(guarded: Guarded) -> None:
    guard, email, home = await guarded(_SLOW), _email(), _address()
    await guard.before(email, home)
    await guard.succeeded(email, home)
    found = [await _is_slowed(guard, email, home) for _ in range(5)]

    assert found == [False] * 3 + [True] * 2


async def test_without_redis_it_is_closed(no_redis: Redis) -> None:
    guard = LoginGuard(no_redis)
    async with running(guard):
        with pytest.raises(ContractError) as refused:
            await guard.before("ada@example.com", "192.0.2.1")
        await guard.succeeded("ada@example.com", "192.0.2.1")

    assert refused.value.code is ProblemCode.LIMITS_UNAVAILABLE


async def test_redis_learns_no_names_and_forgets_all(redis: Redis, guarded: Guarded) -> None:
    await redis.flushdb()
    guard = await guarded(_SLOW)
    await guard.before("ada@example.com", "192.0.2.1")
    await guard.succeeded("ada@example.com", "192.0.2.1")
    await guard.before("ada@example.com", "192.0.2.2")
    keys = [key.decode() async for key in redis.scan_iter("ackledger:{login}:*")]

    assert len(keys) == 3
    assert not any("ada" in key or "192" in key for key in keys)
    assert all([await redis.pttl(key) > 0 for key in keys])
