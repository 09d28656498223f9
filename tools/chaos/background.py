"""Work in the background of a block, which ends with the block, and what tells it to stop."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


async def came_within(event: asyncio.Event, delay_s: float) -> bool:
    """Wait so long for an event; return whether it came."""
    try:
        async with asyncio.timeout(delay_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless work as long as the block lasts; raises what the work raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome
