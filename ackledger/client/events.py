"""Following the log of events: server-sent events, and where to go on when a connection ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson

from ackledger.client.errors import ProblemError, UnreachableError
from ackledger.client.session import LOST, PASSING, read_as
from contracts.representations.event import TransactionEvent
from runtime.resilience.reasons import reason_of
from runtime.service.periodic import Backoff

RETRY_S_MOST: Final = 30.0
EVENT_OCTETS_MAX: Final = 4 * 1024 * 1024
"""An event is a transaction of at most a mebibyte, a hundred wallets, and what JSON escapes."""


@dataclass(frozen=True, slots=True)
class Followed:
    """An event, and the `id` after which to go on: keep it with what the event has changed.

    The same event may come twice; both have the same `event.event_id`.
    """

    id: str
    event: TransactionEvent


@dataclass(frozen=True, slots=True)
class Reset:
    """Events may have been missed: the one to go on after is not kept any more.

    Read again what you follow; what comes next goes on from here.
    """


@dataclass(frozen=True, slots=True)
class Block:
    """What stood between two empty lines; `id` is the last one that was told."""

    type: str
    data: str
    id: str | None
    retry_s: float | None = None


class EventStreamParser:
    """Bytes in any pieces become blocks, as the WHATWG has them, with lines that end by LF or CRLF.

    Comments, and what is incomplete at the end, become nothing.
    """

    def __init__(self, last_id: str | None = None) -> None:
        self._id = last_id
        self._rest = b""
        self._type = ""
        self._data: list[str] = []
        self._retry_s: float | None = None
        self._is_new = False

    def feed(self, piece: bytes) -> Iterator[Block]:
        """Yield what a piece completes; raises ConnectionError for an endless line."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            block = self._take(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if block is not None:
                yield block
        if len(self._rest) > EVENT_OCTETS_MAX:
            raise ConnectionError("the answer is no stream of events")

    def _take(self, line: str) -> Block | None:
        if not line:
            return self._ended()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id, self._is_new = value, True
            case "retry" if value.isascii() and value.isdecimal():
                self._retry_s, self._is_new = min(int(value) / 1000, RETRY_S_MOST), True
            case _:
                pass
        return None

    def _ended(self) -> Block | None:
        if not self._data and not self._is_new:
            self._type = ""
            return None
        block = Block(self._type or "message", "\n".join(self._data), self._id, self._retry_s)
        self._type, self._data, self._retry_s, self._is_new = "", [], None, False
        return block


Opening: TypeAlias = Callable[
    [Mapping[str, str], str | None], AbstractAsyncContextManager[AsyncIterator[bytes]]
]
"""Opens one answer of events: the query, and the `id` to begin after. Raises ProblemError and LOST.

The answer ends, or raises one of LOST; a silence of several heartbeats is one.
"""


class Following:
    """One reader of the log of events, through any number of connections."""

    def __init__(
        self,
        opening: Opening,
        query: Mapping[str, str],
        last_event_id: str | None,
        give_up_after_s: float,
    ) -> None:
        self._opening = opening
        self._query = query
        self._position = last_event_id
        self._give_up_after_s = give_up_after_s
        self._reached = time.monotonic()
        self._retry_s = 0.0
        self._backoff = Backoff(first_s=0.1, most_s=5.0)

    async def items(self) -> AsyncGenerator[Followed | Reset, None]:
        """Yield events for ever; raises ProblemError or UnreachableError."""
        while True:
            asked_s = 0.0
            try:
                async with self._opening(self._query, self._position) as pieces:
                    # Not in a generator of its own: left early, it would be closed later.
                    parser = EventStreamParser(self._position)
                    with self._reaching():
                        async for piece in pieces:
                            for block in parser.feed(piece):
                                if (item := self._taken(block)) is not None:
                                    yield item
            except ProblemError as error:
                if error.status not in PASSING or self._is_late():
                    raise
                asked_s = error.retry_after_s
            except LOST as error:
                if self._is_late():
                    raise UnreachableError(f"following events: {reason_of(error)}") from error
            await asyncio.sleep(max(self._backoff.next_delay_s(), self._retry_s, asked_s))

    def _taken(self, block: Block) -> Followed | Reset | None:
        self._backoff.reset()
        self._position = block.id or self._position
        if block.retry_s is not None:
            self._retry_s = block.retry_s
        if block.type == "reset":
            return Reset()
        if not block.data or block.id is None:
            return None  # how far the service has looked
        return Followed(block.id, read_as(TransactionEvent, orjson.loads(block.data)))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Count as reached as long as an answer lasts."""
        try:
            yield
        finally:
            self._reached = time.monotonic()

    def _is_late(self) -> bool:
        return time.monotonic() - self._reached >= self._give_up_after_s
