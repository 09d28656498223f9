"""Running a loop for as long as a test looks at it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from runtime.service.lifecycle import Loop


@asynccontextmanager
async def running(loop: Loop) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a loop beside the body; an error that ended it is raised at the end."""
    task = asyncio.get_running_loop().create_task(loop.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
