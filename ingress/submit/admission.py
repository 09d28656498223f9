"""Admission: how much may come in, by each client's rate and by what waits for posting already.

Rates are counted in Redis, which may vanish at any moment: then nobody is limited, a metric says
so, and no answer changes. The backlog is counted in PostgreSQL, once a second.
"""

import math
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import Final
from uuid import UUID

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.identifiers import first_id_at
from contracts.problems import ContractError, ProblemCode
from ingress.metrics import BACKLOG, REDIS_FAILURES
from runtime.postgres.pool import UNREACHABLE, Pool
from runtime.postgres.queries import load_queries
from runtime.service.periodic import one_of, repeat
from runtime.service.status_server import Check, DependencyState

ANSWER_TIMEOUT_S: Final = 0.1
"""A limiter must cost less than what it protects."""
REST_S: Final = 1.0
"""After a failure Redis is left alone this long, so that requests do not wait for it in turn."""
BACKLOG_INTERVAL_S: Final = 1.0
MARGIN: Final = timedelta(seconds=5)
"""Rows of a group insert that commits late are still counted this long behind the newest."""
FIRST_LOOK_BACK: Final = timedelta(minutes=10)
"""Older rows that wait are the reconciler's, and do not hold up new ones."""

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)
_FAILURES: Final = (RedisError, OSError, TimeoutError)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the limiter says of one request."""

    is_allowed: bool
    limit: int
    remaining: int
    retry_after_s: int

    def headers(self) -> dict[str, str]:
        """Return the headers that tell a client where it stands."""
        headers = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.retry_after_s),
        }
        return headers if self.is_allowed else {**headers, "Retry-After": str(self.retry_after_s)}


class RateLimiter:
    """Generic cell rate algorithm in one Lua call."""

    def __init__(self, redis: "Redis", *, per_s: float, burst: int) -> None:
        """`per_s` requests a second in the long run, `burst` at once; 0 a second: no limit."""
        self._burst = burst
        self._interval_us = round(1_000_000 / per_s) if per_s else 0
        script = resources.files("ingress").joinpath("rate_limit.lua").read_text()
        self._script = redis.register_script(script)
        self._resting_until = 0.0

    async def allow(self, client: str) -> Allowance | None:
        """Count a request; None where there is no limit or nobody to ask."""
        if not self._interval_us or time.monotonic() < self._resting_until:
            return None
        try:
            answer = await self._script(
                keys=[f"ackledger:rate:{client}"], args=[self._interval_us, self._burst]
            )
        except _FAILURES as error:
            self._resting_until = time.monotonic() + REST_S
            REDIS_FAILURES.inc()
            log.warning("rate_limit_unavailable", error=repr(error))
            return None
        is_allowed, remaining, wait_us = (int(number) for number in answer)
        return Allowance(
            is_allowed=bool(is_allowed),
            limit=self._burst,
            remaining=remaining,
            retry_after_s=math.ceil(wait_us / 1_000_000),
        )


def connect_redis(url: str) -> "Redis":
    """Return a client that connects when it is first used and never waits long."""
    return Redis.from_url(
        url, socket_timeout=ANSWER_TIMEOUT_S, socket_connect_timeout=ANSWER_TIMEOUT_S
    )


def check_redis(redis: "Redis") -> Check:
    """Return a readiness check; without Redis the service runs on, unlimited."""

    async def check() -> DependencyState:
        try:
            await redis.ping()
        except _FAILURES as error:
            return DependencyState(is_up=False, detail=type(error).__name__)
        return DependencyState(is_up=True)

    return check


def backlog_full() -> ContractError:
    """Return what is wrong with a submission that comes while too many wait."""
    return ContractError(ProblemCode.BACKLOG_FULL, "send it again after Retry-After")


class BacklogGauge:
    """Counts what waits, up to a bound, without an index on the status.

    It reads only from the oldest waiting row on, so its cost follows the backlog and not the table.
    """

    def __init__(self, pool: Pool, *, backlog_max: int) -> None:
        self._pool = pool
        self._backlog_max = backlog_max
        self._sql = load_queries("ingress")
        self._floor: UUID | None = None
        self.is_full = False
        """Whether as many wait as may wait: then nothing more is accepted."""

    async def run(self) -> None:
        """Measure until cancelled; the last measure stands while the database is away."""
        await repeat(
            self._measure,
            every_s=BACKLOG_INTERVAL_S,
            is_passing=one_of(*_PASSING),
            failed=lambda error: log.info("backlog_unknown", error=repr(error)),
        )

    async def _measure(self) -> None:
        await self.run_once()

    async def run_once(self) -> int:
        """Measure now and return how many wait, at most backlog_max."""
        if self._floor is None:
            now = await self._pool.fetchval(self._sql["read_clock"])
            self._floor = first_id_at(now - FIRST_LOOK_BACK)
        row = await self._pool.fetchrow(self._sql["count_backlog"], self._floor, self._backlog_max)
        if row is None:
            raise AssertionError("an aggregate has one row")
        self._floor = row["oldest"] or first_id_at(row["now"] - MARGIN)
        BACKLOG.set(row["waiting"])
        self.is_full = row["waiting"] >= self._backlog_max
        return int(row["waiting"])
