"""A client of `GET /v1/events`: it goes on by `Last-Event-ID`, at whichever ingress answers.

Every event is on disk before the next is read. Of some it is asked at once whether their
transaction can be read: an event never comes before it.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO, Final, Self
from uuid import UUID

import aiohttp
import orjson
import structlog

from runtime.event_log.event import LogPosition
from tools.chaos.background import running
from tools.chaos.doors import Doors

SILENCE_MAX_S: Final = 6.0
"""Longer than three heartbeats of a scene: who sends nothing for so long is given up."""
LOOKED_UP_EVERY: Final = 20
"""One event of so many has its transaction read."""
_LOOKUPS_MAX: Final = 8
"""At once; events that come meanwhile are not looked up."""
_CONNECT_S: Final = 5.0
_PAUSE_S: Final = 0.2
_LOOK_S: Final = 0.1
_LOST: Final = (aiohttp.ClientError, TimeoutError, OSError)
_STATUSES: Final[Mapping[str, frozenset[str]]] = {
    "transaction.completed": frozenset({"COMPLETED", "REVERSED"}),
    "transaction.failed": frozenset({"FAILED"}),
    "transaction.reversed": frozenset({"REVERSED"}),
}
"""What a transaction can be once an event told of it; of other events any."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FollowedEvent:
    """What the checks need of an event, from whoever hears of it over HTTP."""

    event_id: UUID
    event_type: str
    transaction_id: UUID
    occurred_at: datetime
    wallet_ids: frozenset[UUID]
    """Every wallet that it names."""

    @classmethod
    def of_body(cls, body: bytes) -> Self:
        """Return the event that a body is."""
        view = orjson.loads(body)
        return cls(
            UUID(view["event_id"]),
            view["event_type"],
            UUID(view["id"]),
            datetime.fromisoformat(view["occurred_at"]),
            frozenset(map(UUID, _wallets_in(view))),
        )

    def to_line(self) -> bytes:
        """Return the line by which it is kept."""
        fields = (
            self.event_id,
            self.event_type,
            self.transaction_id,
            self.occurred_at,
            sorted(self.wallet_ids),
        )
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def of_line(cls, line: bytes) -> Self:
        """Return the event that a line tells of."""
        event_id, event_type, transaction_id, occurred_at, wallet_ids = orjson.loads(line)
        return cls(
            UUID(event_id),
            event_type,
            UUID(transaction_id),
            datetime.fromisoformat(occurred_at),
            frozenset(map(UUID, wallet_ids)),
        )


def _wallets_in(view: Mapping[str, Any]) -> Iterator[str]:
    yield from filter(None, (view["source_wallet_id"], view["destination_wallet_id"]))
    for part in ("entries", "legs", "wallets"):
        yield from filter(None, (one["wallet_id"] for one in view[part] or ()))


class EventFollower:
    """Follows everything from when it is entered on; some events come twice."""

    def __init__(self, doors: Doors, *, directory: Path) -> None:
        self.path = directory / "followed.jsonl"
        self.ids: set[UUID] = set()
        """Of all events that came."""
        self.last_id: str | None = None
        self.connections = 0
        self.lookups = 0
        self.resets = 0
        """How often it was told that events may have been missed; never, while the log is there."""
        self.untimely: list[tuple[FollowedEvent, str]] = []
        """Events whose transaction could not be read as what they told, and what was answered."""
        self._urls = cycle(doors.http_urls)
        self._headers = {"Authorization": f"Bearer {doors.api_key}"}
        self._file: BinaryIO | None = None
        self._session: aiohttp.ClientSession | None = None
        self._up = asyncio.Event()
        self._lookups: set[asyncio.Task[None]] = set()
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Return when an ingress has begun to answer; raises TimeoutError if none does."""
        self._file = self._exits.enter_context(self.path.open("wb"))
        self._session = await self._exits.enter_async_context(aiohttp.ClientSession())
        try:
            await self._exits.enter_async_context(running(self._run()))
            async with asyncio.timeout(2 * _CONNECT_S):
                await self._up.wait()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    @property
    def last_offset(self) -> int | None:
        """Which message of the log holds the last event that came."""
        position = None if self.last_id is None else LogPosition.of_id(self.last_id)
        return None if position is None else position.offset

    async def await_events(self, event_ids: set[UUID], *, bound_s: float) -> float | None:
        """Return after how many seconds it has these; None if not within the bound."""
        began = time.monotonic()
        while not event_ids <= self.ids:
            if time.monotonic() - began > bound_s:
                return None
            await asyncio.sleep(_LOOK_S)
        return time.monotonic() - began

    def read(self) -> Iterator[FollowedEvent]:
        """Yield every event, in the order of arrival."""
        if self._file is not None and not self._file.closed:
            self._file.flush()
        with self.path.open("rb") as lines:
            yield from map(FollowedEvent.of_line, lines)

    async def _run(self) -> None:
        """Follow, at one ingress after the other, until cancelled."""
        for url in self._urls:
            try:
                await self._follow(url)
            except _LOST as error:
                log.info("following_ended", url=url, error=repr(error))
            await asyncio.sleep(_PAUSE_S)

    async def _follow(self, url: str) -> None:
        assert self._session is not None  # noqa: S101  # entered before it runs
        last = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_S, sock_read=SILENCE_MAX_S)
        async with self._session.get(
            f"{url}/v1/events", headers=self._headers | last, timeout=timeout
        ) as response:
            if response.status != HTTPStatus.OK:
                return
            self.connections += 1
            self._up.set()
            async for block in blocks_of(response.content):
                self._take(block)

    def _take(self, block: Mapping[str, str]) -> None:
        """Keep an event, and only then the id behind which to go on."""
        if block.get("event") == "reset":
            self.resets += 1
        elif "data" in block:
            assert self._file is not None  # noqa: S101  # entered before it runs
            event = FollowedEvent.of_body(block["data"].encode())
            self._file.write(event.to_line())
            self.ids.add(event.event_id)
            if len(self.ids) % LOOKED_UP_EVERY == 0 and len(self._lookups) < _LOOKUPS_MAX:
                task = asyncio.create_task(self._look_up(event))
                self._lookups.add(task)
                task.add_done_callback(self._lookups.discard)
        if "id" in block:
            self.last_id = block["id"]

    async def _look_up(self, event: FollowedEvent) -> None:
        """Read an event's transaction; an ingress that does not answer says nothing about it."""
        assert self._session is not None  # noqa: S101  # entered before it runs
        url = f"{next(self._urls)}/v1/transactions/{event.transaction_id}"
        timeout = aiohttp.ClientTimeout(total=_CONNECT_S)
        with suppress(*_LOST):
            async with self._session.get(url, headers=self._headers, timeout=timeout) as response:
                if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    return
                answer = orjson.loads(await response.read())
                self.lookups += 1
                fault = untimeliness(event.event_type, response.status, answer)
                if fault is not None:
                    self.untimely.append((event, fault))


def untimeliness(event_type: str, status: int, answer: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the transaction that an event told of; None: nothing. Pure."""
    if status != HTTPStatus.OK:
        return f"it was told before it could be read: {status} {answer.get('code')}"
    if answer["status"] not in _STATUSES.get(event_type, {answer["status"]}):
        return f"{event_type} was told while it was {answer['status']}"
    return None


async def blocks_of(lines: AsyncIterable[bytes]) -> AsyncIterator[Mapping[str, str]]:
    """Yield the blocks of server-sent events; one that is cut off at the end is none."""
    block: dict[str, str] = {}
    async for line in lines:
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(": ")
            block[name] = value
        elif block:
            yield block
            block = {}
