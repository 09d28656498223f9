"""Counting in Redis: as the rules have it, for all of a request's windows at once; and without."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from contracts.problems import ContractError, ProblemCode
from contracts.rate_limits import LimitClass, parse_rate_limits
from ingress.authentication import Client
from ingress.limits.limiter import (
    Allowance,
    LimitRules,
    LocalBuckets,
    RateLimitedError,
    RateLimiter,
)
from tests.integration.reconciler.serving import running
from tests.support import eventually


def _person() -> Client:
    return Client("ada", frozenset(), user_id=uuid4())


@asynccontextmanager
async def _limiter(redis: Redis, text: str) -> AsyncIterator[RateLimiter]:
    limiter = RateLimiter(redis, LimitRules(parse_rate_limits(text), {}))
    async with running(limiter):
        yield limiter


async def _standing(
    limiter: RateLimiter, client: Client, costs: Mapping[LimitClass, int]
) -> Allowance:
    counted = limiter.count_soon(client, costs)
    assert counted is not None
    [allowance] = await counted
    assert isinstance(allowance, Allowance)
    return allowance


async def test_redis_counts_as_the_rules_have_it(redis: Redis) -> None:
    """Windows of hours, so that no time passes that would matter."""
    text = "authenticated=40/4h,60/1d deposit=20/2h transfer=none"
    rules, local, chance = LimitRules(parse_rate_limits(text), {}), LocalBuckets(), Random(7)
    people = [_person() for _ in range(3)]
    async with _limiter(redis, text) as limiter:
        for _ in range(200):
            person = chance.choice(people)
            costs = (
                {LimitClass.DEPOSIT: chance.choice([1, 1, 2, 30])} if chance.random() < 0.6 else {}
            )
            found = await _standing(limiter, person, costs)
            expected = local.count(rules.of_client(person, costs), now_us=10**15)
            assert found.is_allowed == expected.is_allowed
            assert [one.remaining for one in found.levels] == [
                one.remaining for one in expected.levels
            ]
            assert [one.wait_us > 0 for one in found.levels] == [
                one.wait_us > 0 for one in expected.levels
            ]


async def test_of_many_requests_of_one_instant_no_more_pass_than_the_quota(redis: Redis) -> None:
    person = _person()
    async with (
        _limiter(redis, "authenticated=25/1h") as one,
        _limiter(redis, "authenticated=25/1h") as other,
    ):
        found = await asyncio.gather(
            *(_standing(limiter, person, {}) for limiter in (one, other) for _ in range(200))
        )

    assert sum(allowance.is_allowed for allowance in found) == 25


async def test_a_refused_request_takes_from_no_window(redis: Redis) -> None:
    person = _person()
    async with _limiter(redis, "authenticated=9/1h deposit=1/1h") as limiter:
        first = await _standing(limiter, person, {LimitClass.DEPOSIT: 1})
        refused = [await _standing(limiter, person, {LimitClass.DEPOSIT: 1}) for _ in range(3)]
        other = await _standing(limiter, person, {LimitClass.WITHDRAWAL: 1})

    assert first.is_allowed
    assert {one.is_allowed for one in refused} == {False}
    assert (other.is_allowed, other.levels[0].remaining) == (True, 7)


async def test_what_comes_back_is_allowed_when_it_was_said(redis: Redis) -> None:
    person = _person()
    async with _limiter(redis, "authenticated=5/1s") as limiter:
        for _ in range(5):
            await limiter.count(person)
        with pytest.raises(RateLimitedError) as refused:
            await limiter.count(person)

        async def is_allowed() -> bool:
            return (await _standing(limiter, person, {})).is_allowed

        wait_s = int(refused.value.headers["Retry-After"])
        await eventually(is_allowed, what="it is allowed again", within_s=wait_s)


async def test_a_redis_that_forgot_its_scripts_is_told_them_again(redis: Redis) -> None:
    person = _person()
    async with _limiter(redis, "authenticated=5/1h") as limiter:
        await limiter.count(person)
        await redis.script_flush()
        headers = await limiter.count(person)

    assert headers["RateLimit-Remaining"] == "3"


async def test_buckets_do_not_stay_for_ever(redis: Redis) -> None:
    person = _person()
    async with _limiter(redis, "authenticated=5/1h") as limiter:
        await limiter.count(person)
    [key] = [key async for key in redis.scan_iter(f"*{person.user_id}*")]

    assert 0 < await redis.pttl(key) <= 3600 / 5 * 1000 + 1000


async def test_without_redis_a_process_counts_by_itself(no_redis: Redis) -> None:
    person = _person()
    async with _limiter(no_redis, "authenticated=5/1h") as limiter:
        found = [(await _standing(limiter, person, {})).is_allowed for _ in range(7)]

    assert found == [True] * 5 + [False] * 2


async def test_without_redis_logins_are_closed_and_other_calls_are_not(no_redis: Redis) -> None:
    async with _limiter(no_redis, "") as limiter:
        with pytest.raises(ContractError) as refused:
            await limiter.count_address("192.0.2.1", is_login=True)
        headers = await limiter.count_address("192.0.2.1", is_login=False)

    assert refused.value.code is ProblemCode.LIMITS_UNAVAILABLE
    assert headers["RateLimit"].startswith('"anonymous-1m";r=9;')


async def test_whoever_has_no_limit_is_not_counted(no_redis: Redis) -> None:
    limiter = RateLimiter(no_redis, LimitRules(parse_rate_limits("authenticated=none"), {}))

    assert await limiter.count(Client("shop", frozenset())) == {}
    assert await limiter.count(Client("ada", frozenset(), user_id=UUID(int=1))) == {}
