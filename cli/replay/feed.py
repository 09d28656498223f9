"""Rows from a reading thread: reading may block for as long as a pipe is silent."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Final

from cli.replay.mapping import Record
from cli.replay.reading import BadRow

Rows = list[Record | BadRow]

CHUNK_ROWS: Final = 200
"""Rows handled at a stretch: a few milliseconds of the loop's time."""
_CHUNKS_AHEAD: Final = 4


async def begun(rows: Iterator[Record | BadRow]) -> AsyncIterator[Rows]:
    """Return the rows in chunks when the first one is read: what is wrong with it is raised here.

    So a header that does not serve is told before anybody is asked for anything.
    """
    chunks = chunks_of(rows)
    first = await anext(chunks, None)

    async def all_of_them() -> AsyncIterator[Rows]:
        if first is not None:
            yield first
            async for chunk in chunks:
                yield chunk

    return all_of_them()


async def chunks_of(rows: Iterator[Record | BadRow]) -> AsyncIterator[Rows]:
    """Yield the rows in chunks, read by a thread that stays a few chunks ahead.

    The thread is a daemon: one that waits for a silent pipe keeps nobody from leaving.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Rows | BaseException] = asyncio.Queue(maxsize=_CHUNKS_AHEAD)

    def put(chunk: Rows | BaseException) -> None:
        if loop.is_closed():
            raise CancelledError
        asyncio.run_coroutine_threadsafe(queue.put(chunk), loop).result()

    def read() -> None:
        with suppress(CancelledError, RuntimeError):  # the loop has ended: nobody listens
            try:
                while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
                    put(chunk)
            except Exception as error:  # noqa: BLE001  # raised again where the rows are wanted
                put(error)
            put([])

    threading.Thread(target=read, name="replay-reader", daemon=True).start()
    while chunk := await queue.get():
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk
