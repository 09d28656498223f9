"""The watch: look, wait, look again, and hand each reading on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp

from cli.failures import UnreachableError
from cli.watch.database import Look
from runtime.watching.reading import Reading, Snapshot, reading_of, take_snapshot


@asynccontextmanager
async def status_looks(urls: Callable[[], Mapping[str, str]]) -> AsyncIterator[Look]:
    """Give what looks at processes by their status ports.

    `urls` is asked each time, so a system that was started anew is found again.
    """
    async with aiohttp.ClientSession() as session:
        yield lambda: take_snapshot(session, urls())


async def readings(look: Look, *, interval_s: float) -> AsyncIterator[tuple[Snapshot, Reading]]:
    """Yield a snapshot and what happened since the one before, for ever.

    Raises UnreachableError when nobody answers the first look.
    """
    before = await look()
    if not any(one.metrics.samples for one in before.processes.values()):
        troubles = "; ".join(f"{name}: {one.trouble}" for name, one in before.processes.items())
        raise UnreachableError(f"no process answers ({troubles})")
    while True:
        await asyncio.sleep(interval_s)
        now = await look()
        yield now, reading_of(before, now)
        before = now
