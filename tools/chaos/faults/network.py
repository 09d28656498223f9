"""What networks do between all processes and servers at once: cut, lose answers, hold back, dawdle.

The same for a single link stands in `links`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from tools.chaos.faults.fault import BROKER_BACK_S, STANDBY_S, SceneFault, Strike
from tools.chaos.proxy import Proxy, Trap
from tools.chaos.scene import ORDER_BOUND_S, NotStruckError, Scene
from tools.chaos.ways import EVERY_WAY, Server, Way, ways_of
from tools.system import Role

# A round trip across a continent, in packets of a bad line.
_LATENCY_S: Final = 0.02
_CHUNK_BYTES: Final = 2048
_COMMIT: Final = b"COMMIT;"
_PUBLISHERS: Final = (
    *ways_of(Role.INGRESS, Server.RABBITMQ),
    *ways_of(Role.PROCESSOR, Server.RABBITMQ),
    Way.UPSTREAM_RABBITMQ,
)


@asynccontextmanager
async def _cut(scene: Scene) -> AsyncIterator[None]:
    for proxy in scene.proxies.values():
        proxy.cut()
    yield


def slow(proxy: Proxy) -> AbstractContextManager[None]:
    """Forward in small packets, each late."""
    return proxy.slow(latency_s=_LATENCY_S, chunk_bytes=_CHUNK_BYTES)


def trouble_on(
    ways: Sequence[Way], trouble: Callable[[Proxy], AbstractContextManager[object]]
) -> Strike:
    """Return what lets the proxies of these ways make trouble."""

    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        with scene.on(ways, trouble):
            yield

    return strike


@asynccontextmanager
async def _commit_cut(scene: Scene) -> AsyncIterator[None]:
    """Let PostgreSQL commit a batch, and the processor never hear of it."""
    async with AsyncExitStack() as trapped:
        traps: list[Trap] = [
            trapped.enter_context(scene.proxies[way].trapped(_COMMIT))
            for way in ways_of(Role.PROCESSOR, Server.POSTGRES)
        ]
        sprung = [asyncio.ensure_future(trap.sprung.wait()) for trap in traps]
        try:
            done, _ = await asyncio.wait(
                sprung, timeout=ORDER_BOUND_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for waiting in sprung:
                waiting.cancel()
        if not done:
            raise NotStruckError("no processor committed")
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
        strike=trouble_on(ways_of(Role.INGRESS, Server.POSTGRES), Proxy.swallowing_answers),
        lasting_s=0.5,
    ),
    SceneFault(
        name="confirms-lost",
        claim="a publish without its confirm is of unknown outcome: done again, posted once",
        strike=trouble_on(_PUBLISHERS, Proxy.swallowing_answers),
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
        strike=trouble_on(ways_of(Role.PROCESSOR, Server.POSTGRES), Proxy.refusing),
        lasting_s=3.0,
        recovery_bound_s=2 * STANDBY_S,
    ),
    SceneFault(
        name="network-silent",
        claim="connections that stand and carry nothing delay work, and lose none",
        strike=trouble_on(EVERY_WAY, Proxy.silent),
        lasting_s=3.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="network-slow",
        claim="latency and small packets cost time and nothing else",
        strike=trouble_on(EVERY_WAY, slow),
        lasting_s=5.0,
    ),
)
