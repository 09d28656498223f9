"""The watch: look, wait, look again, and hand each reading on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp

from cli.failures import UnreachableError
from cli.watch.reading import Reading, reading_of
from cli.watch.snapshot import Snapshot, take_snapshot


async def readings(
    urls: Callable[[], Mapping[str, str]], *, interval_s: float
) -> AsyncIterator[tuple[Snapshot, Reading]]:
    """Yield a snapshot and what happened since the one before, for ever.

    `urls` is asked each time, so a system that was started anew is found again. Raises
    UnreachableError when no process answers the first look.
    """
    async with aiohttp.ClientSession() as session:
        before = await take_snapshot(session, urls())
        if not any(look.metrics.samples for look in before.processes.values()):
            troubles = "; ".join(
                f"{name}: {look.trouble}" for name, look in before.processes.items()
            )
            raise UnreachableError(f"no process answers ({troubles})")
        while True:
            await asyncio.sleep(interval_s)
            now = await take_snapshot(session, urls())
            yield now, reading_of(before, now)
            before = now
