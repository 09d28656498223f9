"""What networks do: cut, lose answers, hold back, and dawdle."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Final

from ops.chaos.faults.fault import BROKER_BACK_S, STANDBY_S, SceneFault, Strike
from ops.chaos.scene import ORDER_BOUND_S, NotStruckError, Scene, Way

# A round trip across a continent, in packets of a bad line.
_LATENCY_S: Final = 0.02
_CHUNK_BYTES: Final = 2048
_COMMIT: Final = b"COMMIT;"
_ALL: Final = tuple(Way)


@asynccontextmanager
async def _cut(scene: Scene) -> AsyncIterator[None]:
    for proxy in scene.proxies.values():
        proxy.cut()
    yield


@asynccontextmanager
async def _slow(scene: Scene) -> AsyncIterator[None]:
    with ExitStack() as slowed:
        for proxy in scene.proxies.values():
            slowed.enter_context(proxy.slow(latency_s=_LATENCY_S, chunk_bytes=_CHUNK_BYTES))
        yield


def _refused(ways: Sequence[Way]) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        with ExitStack() as refusing:
            for way in ways:
                refusing.enter_context(scene.proxies[way].refusing())
            yield

    return strike


def _silent(ways: Sequence[Way]) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        with ExitStack() as silent:
            for way in ways:
                silent.enter_context(scene.proxies[way].silent())
            yield

    return strike


def _answers_lost(ways: Sequence[Way]) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        with ExitStack() as swallowing:
            for way in ways:
                swallowing.enter_context(scene.proxies[way].swallowing_answers())
            yield

    return strike


@asynccontextmanager
async def _commit_cut(scene: Scene) -> AsyncIterator[None]:
    """Let PostgreSQL commit a batch, and the processor never hear of it."""
    with scene.proxies[Way.PROCESSOR_POSTGRES].trapped(_COMMIT) as trap:
        try:
            async with asyncio.timeout(ORDER_BOUND_S):
                await trap.sprung.wait()
        except TimeoutError:
            raise NotStruckError("no processor committed") from None
    yield


FAULTS: Final = (
    SceneFault(
        name="connection-cut-during-commit",
        claim="a commit whose answer is lost is of unknown outcome: done again, posted once",
        strike=_commit_cut,
    ),
    SceneFault(
        name="commit-answers-lost-at-the-ingress",
        claim="recorded without an answer: the same key, sent again, gives that transaction",
        strike=_answers_lost([Way.INGRESS_POSTGRES]),
        lasting_s=0.5,
    ),
    SceneFault(
        name="confirms-lost",
        claim="a publish without its confirm is of unknown outcome: done again, posted once",
        strike=_answers_lost([Way.INGRESS_RABBITMQ, Way.PROCESSOR_RABBITMQ, Way.UPSTREAM_RABBITMQ]),
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="all-connections-cut",
        claim="every connection is made anew, and nothing is done twice",
        strike=_cut,
    ),
    SceneFault(
        name="processors-without-postgres",
        claim="submissions are accepted as before and posted when the way is open again",
        strike=_refused([Way.PROCESSOR_POSTGRES]),
        lasting_s=3.0,
        recovery_bound_s=2 * STANDBY_S,
    ),
    SceneFault(
        name="network-silent",
        claim="connections that stand and carry nothing delay work, and lose none",
        strike=_silent(_ALL),
        lasting_s=3.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="network-slow",
        claim="latency and small packets cost time and nothing else",
        strike=_slow,
        lasting_s=5.0,
    ),
)
