"""Logins, slowed: the more passwords were wrong, the longer an account and an address wait.

An attempt is counted before the password is looked at, so that a thousand at once are a thousand
attempts. Attempts from an address that an account has logged in from are counted apart from all
others, so that a stranger's guesses keep nobody out of their own account.
"""

import asyncio
import hashlib
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from redis.asyncio import Redis

from ingress.limits.limiter import (
    GROUP_MAX,
    WAITING_MAX,
    RateLimitedError,
    RedisScript,
    ScriptCall,
    limits_unavailable,
    network_of,
)
from ingress.metrics import LOGINS
from runtime.service.batcher import MicroBatcher

KEY_PREFIX: Final = "ackledger:{login}:"
"""The braces keep an attempt's keys on one node of a cluster."""


class Slowing(NamedTuple):
    """How attempts are slowed: after `free` of them by `first_ms`, and by twice as much each time.

    `longest_ms` bounds the delay.
    """

    account_free: int = 5
    """Whoever forgot which of a few passwords it was is not slowed."""
    account_first_ms: int = 1_000
    address_free: int = 20
    """An office behind one address has more people with wrong passwords."""
    address_first_ms: int = 1_000
    longest_ms: int = 15 * 60 * 1_000
    """Some hundred guesses a day: no password that is accepted is among the first of those."""
    memory_ms: int = round(timedelta(days=1) / timedelta(milliseconds=1))
    known_ms: int = round(timedelta(days=30) / timedelta(milliseconds=1))


class LoginGuard:
    """Says whether an attempt to log in may be made now; whether there is such an account or not.

    Closed without Redis: whoever guesses would only have to bring it down.
    """

    def __init__(self, redis: "Redis", slowing: Slowing = Slowing()) -> None:  # noqa: B008  # frozen
        self._slowing = slowing
        self._attempts = _batched(RedisScript(redis, "login_guard.lua"))
        self._pardons = _batched(RedisScript(redis, "login_pardon.lua"))

    async def run(self) -> None:
        """Count until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._attempts.run())
            group.create_task(self._pardons.run())

    async def before(self, email: str, address: str) -> None:
        """Count an attempt on an account from an address; call it before the password is checked.

        Raises ContractError: RATE_LIMITED with the seconds to wait, or LIMITS_UNAVAILABLE.
        """
        [wait_ms] = await self._attempts.submit([(keys_of(email, address), self._slowing[:6])])
        if wait_ms is None:
            raise limits_unavailable()
        if wait_ms > 0:
            LOGINS.labels("slowed").inc()
            raise RateLimitedError({"Retry-After": str(math.ceil(wait_ms / 1000))})

    async def failed(self, email: str, address: str) -> None:  # noqa: ARG002  # `before` counted it
        """Take note that the attempt failed: what `before` counted stays."""
        LOGINS.labels("failed").inc()

    async def succeeded(self, email: str, address: str) -> None:
        """Forget the account's attempts, and this one of the address."""
        LOGINS.labels("succeeded").inc()
        # Without an answer the next login of this account may have to wait: no harm done.
        await self._pardons.submit([(keys_of(email, address), (self._slowing.known_ms,))])


def _batched(script: RedisScript) -> MicroBatcher[ScriptCall, int | None]:
    """Return what runs the script once for each call; None where Redis does not answer."""

    async def run(calls: list[ScriptCall]) -> Sequence[int | None]:
        answers = await script.run(calls)
        return [None] * len(calls) if answers is None else [int(one) for one in answers]

    return MicroBatcher(run, group_max=GROUP_MAX, waiting_max=WAITING_MAX, workers=1)


def keys_of(email: str, address: str) -> Sequence[str]:
    """Return the keys of both scripts. Nobody reads addresses in them: they hold digests."""
    account = _digest(email.strip().casefold())
    network = _digest(network_of(address))
    return [
        f"{KEY_PREFIX}account:{account}",
        f"{KEY_PREFIX}address:{network}",
        f"{KEY_PREFIX}known:{account}:{network}",
        f"{KEY_PREFIX}from:{account}:{network}",
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
