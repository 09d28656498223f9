"""Wrong clocks: one of each process an hour off its twin."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from ackledger.client.asynchronous import AsyncClient
from tools.chaos.clock import find_faketime
from tools.chaos.faults.fault import SceneFault, Strike
from tools.chaos.scene import (
    INGRESSES,
    LOOK_INTERVAL_S,
    PROCESSORS,
    RECONCILERS,
    NotStruckError,
    Scene,
)

_SHIFTED_LEAST_S: Final = 1800.0
_LOOKS_MAX: Final = 100
_SHIFTED: Final = (INGRESSES[0], PROCESSORS[0], RECONCILERS[0])


async def _see_it_shifted(scene: Scene) -> None:
    """Return when an ingress dates its answers wrongly; raises NotStruckError."""
    url = scene.system.http_urls[_SHIFTED[0]]
    async with AsyncClient(url, scene.system.api_key) as client:
        for _ in range(_LOOKS_MAX):
            answer = await client.call("GET", "/healthz")
            told = parsedate_to_datetime(answer.headers["Date"])
            if abs((told - datetime.now(UTC)).total_seconds()) > _SHIFTED_LEAST_S:
                return
            await asyncio.sleep(LOOK_INTERVAL_S)
    raise NotStruckError("libfaketime does not reach the processes")


def _shifted(offset: str) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        clock = scene.clock
        if clock is None:
            raise NotStruckError("the scene was set without libfaketime")
        for label in _SHIFTED:
            clock.shift(label, offset)
        try:
            await _see_it_shifted(scene)
            yield
        finally:
            for label in _SHIFTED:
                clock.shift(label, "+0")

    return strike


def _missing() -> str | None:
    return None if find_faketime() else "libfaketime is not installed"


FAULTS: Final = tuple(
    SceneFault(
        name=f"clock-an-hour-{where}",
        claim="only the database's clock counts: times, ids and thresholds stay right",
        strike=_shifted(offset),
        lasting_s=6.0,
        missing=_missing,
    )
    for where, offset in (("ahead", "+1h"), ("behind", "-1h"))
)
