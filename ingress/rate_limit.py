"""Rate limits: so many requests a second for each client, counted in Redis.

Redis may vanish at any moment: then nobody is limited, a metric says so, and no answer changes.
"""

import math
import time
from dataclasses import dataclass
from importlib import resources
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingress.metrics import REDIS_FAILURES
from runtime.status import Check, DependencyState

ANSWER_TIMEOUT_S: Final = 0.1
"""A limiter must cost less than what it protects."""
REST_S: Final = 1.0
"""After a failure Redis is left alone this long, so that requests do not wait for it in turn."""
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
