"""Ends of transactions, as they come: from the API's events to a page that somebody looks at.

The browser talks to the console alone, and gets what a page needs of an event. However many come,
one message goes out each PACE_S, with the last few of them and how many they were.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

STREAMS_MAX: Final = 200
"""At once, each with a connection to the API."""
STREAMS_OF_ONE_MAX: Final = 5
"""Of one person: as many as browsers open to one host beside what a page needs."""
PACE_S: Final = 0.5
"""Between two messages: a page reads itself anew after each."""
TOLD_MAX: Final = 3
"""Transactions that a message names; of more it says how many they are."""
LOOK_S: Final = 1.0
"""Between two looks whether the page is still there."""
QUIET_S: Final = 15.0
"""After which something is sent, so that proxies keep the connection."""
BLOCK_OCTETS_MAX: Final = 512 * 1024
"""Of one event: a journal's with all its legs has a tenth."""
_BEGIN: Final = b"retry: 2000\n\n"
_BEAT: Final = b": heartbeat\n\n"
_SHOWN: Final = ("id", "reference", "type", "status", "amount", "currency")


class Streams:
    """Counts the pages that are told, and ends all of it when the console stops."""

    def __init__(self) -> None:
        self._of_whom: Counter[str] = Counter()
        self._ended = asyncio.Event()

    @contextmanager
    def place(self, whose: str) -> Iterator[bool]:
        """Give whether somebody may have one more, and hold its place meanwhile."""
        is_free = (
            not self._ended.is_set()
            and self._of_whom.total() < STREAMS_MAX
            and self._of_whom[whose] < STREAMS_OF_ONE_MAX
        )
        if not is_free:
            yield False
            return
        self._of_whom[whose] += 1
        try:
            yield True
        finally:
            self._of_whom[whose] -= 1
            # Names of people are kept no longer than their streams.
            self._of_whom += Counter()

    async def end(self, _: object) -> None:
        """End every stream: browsers come again, to the console that is started next."""
        self._ended.set()

    @property
    def is_ended(self) -> bool:
        """Whether the console stops."""
        return self._ended.is_set()


class Ends:
    """What has come and was not told yet; bounded, however fast it comes."""

    def __init__(self) -> None:
        self._last: deque[bytes] = deque(maxlen=TOLD_MAX)
        self._count = 0
        self._id = b""
        self.came = asyncio.Event()

    def add(self, block: bytes) -> None:
        """Take one block of the API's stream; comments are none of ours."""
        fields = dict(_fields(block))
        if b"id" in fields:
            self._id = fields[b"id"]
        if b"event" not in fields:
            return
        if fields[b"event"] != b"reset":
            self._count += 1
            self._last.append(fields.get(b"data", b""))
        self.came.set()

    def take(self) -> bytes:
        """Return what came since the last message as one."""
        told = {"count": self._count, "transactions": [_shown(one) for one in self._last]}
        position = b"id: %b\n" % self._id if self._id else b""
        self._count = 0
        self._last.clear()
        self.came.clear()
        return b"%bevent: ended\ndata: %b\n\n" % (position, orjson.dumps(told))


def _fields(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b": ")
        if colon and name:
            yield name, value


def _shown(data: bytes) -> Mapping[str, Any]:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return {name: event.get(name) for name in _SHOWN} if isinstance(event, dict) else {}


async def pass_on(
    request: web.Request, upstream: aiohttp.ClientResponse, streams: Streams
) -> web.StreamResponse:
    """Tell a page of what comes, until it goes, the API ends it, or the console stops."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    ends = Ends()
    async with _reading(upstream, ends) as reading:
        with suppress(ConnectionError):
            await response.write(_BEGIN)
            quiet_s = 0.0
            while not (streams.is_ended or reading.done() or _is_gone(request)):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await ends.came.wait()
                if ends.came.is_set():
                    await response.write(ends.take())
                    quiet_s = 0.0
                    await asyncio.sleep(PACE_S)
                    continue
                quiet_s += LOOK_S
                if quiet_s >= QUIET_S:
                    await response.write(_BEAT)
                    quiet_s = 0.0
    return response


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


@asynccontextmanager
async def _reading(
    upstream: aiohttp.ClientResponse, ends: Ends
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(_read(upstream, ends))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _read(upstream: aiohttp.ClientResponse, ends: Ends) -> None:
    """Read until the end, or what comes is no stream of the API's."""
    rest = b""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async for part in upstream.content.iter_any():
            *blocks, rest = (rest + part).split(b"\n\n")
            for block in blocks:
                ends.add(block)
            if len(rest) > BLOCK_OCTETS_MAX:
                return
