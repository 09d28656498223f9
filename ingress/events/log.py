"""The log of events, read once for all who follow it.

One consumer reads the end of the stream while somebody follows, and keeps the last events in a
ring, in memory. A follower looks at the ring from where it stands, and sleeps at its end until an
event comes that may concern it. Whoever stands before the ring reads the stream by a consumer of
its own until it has come there; a few may at once.
"""

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from contracts.problems import ContractError, ProblemCode
from contracts.scopes import Reach, Role
from contracts.topology import EVENTS_LOG
from ingress.authentication import Client
from ingress.metrics import EVENTS_FOLLOWERS, EVENTS_READ
from runtime.access.wallets import Holders, WalletHolders
from runtime.amqp.connection import UNREACHABLE
from runtime.amqp.stream import Start, Stream, open_stream
from runtime.amqp.topology import TopologyError
from runtime.event_log.event import (
    Key,
    LoggedEvent,
    LogPosition,
    Wanted,
    behind,
    keys_of,
    next_events,
    wallets_of,
)
from runtime.resilience.error_classification import is_transient
from runtime.service.periodic import Backoff, is_set_within

EVENTS_MAX: Final = 10_000
OCTETS_MAX: Final = 32 * 1024 * 1024
"""Of their bodies; decoded they take some five times as much."""
_FORGOTTEN_AT_ONCE: Final = 4
"""One part in so many is forgotten at a time: a list is cut at its front by moving the rest."""
PREFETCH: Final = 50
"""Messages that one consumer has in hand, of up to 64 events each."""
LOOKED_AT_MAX: Final = 200
"""Events that a follower looks at before others have their turn."""
CATCHING_UP_MAX: Final = 8
"""Followers that read the stream by consumers of their own; others wait for them."""
OF_ONE_PERSON_MAX: Final = 20
"""Followers of one customer: tabs of a browser."""
IDLE_S: Final = 60.0
"""After which a log that nobody follows is not read any more."""
READY_S: Final = 5.0
"""For the end of the stream to be found."""
DATABASE_PAUSE_S: Final = 0.5
ARRIVAL_S: Final = 2.0
"""For an event to arrive that is known to be there, and that another process may have had first."""
EMPTY_S: Final = 0.3
"""The same where there may be none: the broker's count is some seconds old."""

log = structlog.get_logger()


class Ring:
    """Events in the order of the log. Each has a number, which grows by one: offsets have gaps."""

    def __init__(self, *, events_max: int = EVENTS_MAX, octets_max: int = OCTETS_MAX) -> None:
        self._events: list[LoggedEvent] = []
        self._events_max = events_max
        self._octets_max = octets_max
        self._octets = 0
        self.first_number = 0
        """Of the oldest event that is here."""

    @property
    def next_number(self) -> int:
        """What the next event will have."""
        return self.first_number + len(self._events)

    @property
    def first(self) -> LoggedEvent | None:
        """The oldest event that is here."""
        return self._events[0] if self._events else None

    @property
    def last(self) -> LoggedEvent | None:
        """The newest event that is here."""
        return self._events[-1] if self._events else None

    @property
    def last_position(self) -> LogPosition | None:
        """Of the newest event that is here."""
        return self._events[-1].position if self._events else None

    def append(self, event: LoggedEvent) -> None:
        """Add the newest event; the oldest may go."""
        self._events.append(event)
        self._octets += len(event.body)
        if len(self._events) > self._events_max or self._octets > self._octets_max:
            self._forget(-(-len(self._events) // _FORGOTTEN_AT_ONCE))

    def clear(self) -> None:
        """Forget all, and give none of their numbers again."""
        self._forget(len(self._events))

    def since(self, number: int, count: int) -> Sequence[LoggedEvent]:
        """Return so many events from one on; raises LookupError where that is forgotten."""
        start = number - self.first_number
        if start < 0:
            raise LookupError(number)
        return self._events[start : start + count]

    def number_after(self, position: LogPosition) -> int | None:
        """Return the number of the event after one that is here; None where that one is not."""
        at = bisect_left(self._events, position.place, key=lambda one: one.position.place)
        if at < len(self._events) and self._events[at].position == position:
            return self.first_number + at + 1
        return None

    def _forget(self, count: int) -> None:
        gone, self._events = self._events[:count], self._events[count:]
        self.first_number += len(gone)
        self._octets -= sum(len(one.body) for one in gone)


class Taken(NamedTuple):
    """Events as a follower's caller sees them."""

    events: Sequence[tuple[LoggedEvent, bytes]]
    """Those that are wanted, and what is shown of each."""
    last: LogPosition | None
    """The last event that was looked at."""
    looked_at: int = 0
    """How many were looked at."""
    is_reset: bool = False
    """Whether some may have been missed: what was to come next is not kept."""


class FollowingEndedError(Exception):
    """There is no more: this process is stopping, or the caller may not have events any more."""


class EventLog:
    """All events of the last days, for those who may see them."""

    def __init__(
        self,
        url: str,
        holders: WalletHolders,
        *,
        is_kept: bool,
        followers_max: int,
        ring: Ring | None = None,
    ) -> None:
        """`is_kept`: whether events are written into the log at all."""
        self.url = url
        self._holders = holders
        self._is_kept = is_kept
        self._followers_max = followers_max
        self._followers = 0
        self._of_people: dict[str, int] = defaultdict(int)
        self._asleep: dict[Key, set[Follower]] = defaultdict(set)
        self._own_followers = 0
        self._left_at = 0.0
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self._news = asyncio.Event()
        self.catching_up = asyncio.Semaphore(CATCHING_UP_MAX)
        self.ring = ring or Ring()
        self.generation = 0
        """Grows when the stream was found to be another one."""
        self.is_closing = False

    @asynccontextmanager
    async def follow(self, client: Client, wanted: Wanted) -> AsyncIterator["Follower"]:
        """Follow the log as long as the block lasts; raises ContractError where that cannot be."""
        if not self._is_kept or self.is_closing:
            raise unavailable("events are not kept here" if not self._is_kept else "stopping")
        self._admit(client)
        async with AsyncExitStack() as exits:
            exits.callback(self._leave, client)
            await self._await_ready()
            yield await exits.enter_async_context(_following(self, wanted))

    async def run(self) -> None:
        """Read the end of the log while somebody follows, until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=3.0)
        while True:
            await self._wanted.wait()
            try:
                await self._read(backoff)
            except TopologyError as error:
                log.error("events_log_missing", detail=str(error))  # noqa: TRY400
            except UNREACHABLE as error:
                log.warning("events_log_lost", error=repr(error))
            await asyncio.sleep(backoff.next_delay_s())

    async def drain(self) -> None:
        """Let every follower end, and take no more."""
        self.is_closing = True
        for followers in list(self._asleep.values()):
            for follower in list(followers):
                follower.wake()

    async def shown(self, wanted: Wanted, events: Sequence[LoggedEvent]) -> Taken:
        """Return those of some events that a caller wants, as it sees them."""
        is_own = wanted.holder is not None
        holders = await self._holders.of(wallets_of(events)) if is_own else {}
        seen = [(event, wanted.shown(event, holders)) for event in events]
        return Taken(
            [(event, body) for event, body in seen if body is not None],
            events[-1].position,
            len(events),
        )

    async def number_after(self, position: LogPosition) -> int | None:
        """Return the ring's number of what follows an event; None where that is not in the ring.

        Another process may have read further: then it is waited for.
        """
        try:
            async with asyncio.timeout(ARRIVAL_S):
                while True:
                    last = self.ring.last
                    if last is not None and last.position.place >= position.place:
                        break
                    await self._news.wait()
        except TimeoutError:
            return None
        return self.ring.number_after(position)

    def put_to_sleep(self, follower: "Follower", keys: Collection[Key]) -> None:
        """Wake a follower by the next event that is under one of these keys."""
        for key in keys:
            self._asleep[key].add(follower)

    def take_out(self, follower: "Follower", keys: Collection[Key]) -> None:
        """Do not wake it any more."""
        for key in keys:
            sleeping = self._asleep.get(key)
            if sleeping is not None:
                sleeping.discard(follower)
                if not sleeping:
                    del self._asleep[key]

    def _admit(self, client: Client) -> None:
        if self._followers >= self._followers_max:
            raise unavailable(f"{self._followers_max} follow already")
        if client.role is Role.CUSTOMER:
            if self._of_people[client.name] >= OF_ONE_PERSON_MAX:
                raise unavailable(f"you follow {OF_ONE_PERSON_MAX} times already")
            self._of_people[client.name] += 1
        self._followers += 1
        self._own_followers += client.reach is not Reach.ALL
        EVENTS_FOLLOWERS.set(self._followers)
        self._wanted.set()

    def _leave(self, client: Client) -> None:
        if client.role is Role.CUSTOMER:
            self._of_people[client.name] -= 1
            if not self._of_people[client.name]:
                del self._of_people[client.name]
        self._followers -= 1
        self._own_followers -= client.reach is not Reach.ALL
        EVENTS_FOLLOWERS.set(self._followers)
        self._left_at = time.monotonic()

    async def _await_ready(self) -> None:
        if not await is_set_within(self._ready, READY_S):
            raise unavailable("the broker cannot be reached")

    async def _read(self, backoff: Backoff) -> None:
        """Read from the last event on, or from the end; return when nobody follows any more."""
        known = self.ring.last
        start: Start = "last" if known is None else known.position.offset
        async with open_stream(
            self.url, EVENTS_LOG, name="ingress-events", start=start, prefetch=PREFETCH
        ) as stream:
            backoff.reset()
            if known is not None:
                await self._resume(stream, known)
            else:
                # The last chunk tells where the end is. Nobody follows yet, or whoever does found
                # the log empty, or was told that it is another: then all of it is new.
                within_s = ARRIVAL_S if stream.count else EMPTY_S
                await self._tell(await next_events(stream, within_s=within_s))
            self._ready.set()
            while not self._is_idle():
                await self._tell(await next_events(stream, within_s=IDLE_S))
        self._ready.clear()
        self._wanted.clear()
        self.ring.clear()

    def _is_idle(self) -> bool:
        return not self._followers and time.monotonic() - self._left_at > IDLE_S

    async def _resume(self, stream: Stream, known: LoggedEvent) -> None:
        """Go on behind the last event; raises ConnectionResetError where the log is another one."""
        events = behind(await next_events(stream, within_s=ARRIVAL_S), known.position)
        if events is None:
            self.ring.clear()
            self.generation += 1
            self._wake_all()
            raise ConnectionResetError("the log was made anew, or is not kept so long")
        await self._tell(events)

    async def _tell(self, events: Sequence[LoggedEvent]) -> None:
        """Keep events, and wake whom they may concern."""
        holders = None
        # Whoever came while this was read is found by it, too.
        while self._own_followers and holders is None:
            holders = await self._holders_of(events)
        numbers = self._keep(events)
        if not self._asleep:
            return
        for number, event in zip(numbers, events, strict=True):
            for key in keys_of(event, holders or {}):
                for follower in self._asleep.get(key, ()):
                    follower.wake(number)

    async def _holders_of(self, events: Sequence[LoggedEvent]) -> Mapping[UUID, Holders] | None:
        """Return whose the wallets of events are; None, after a pause, where that is not known."""
        try:
            return await self._holders.of(wallets_of(events))
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("events_wait_for_database", error=repr(error))
            await asyncio.sleep(DATABASE_PAUSE_S)
            return None

    def _keep(self, events: Sequence[LoggedEvent]) -> Sequence[int]:
        numbers = []
        for event in events:
            numbers.append(self.ring.next_number)
            self.ring.append(event)
        EVENTS_READ.inc(len(events))
        self._news.set()
        self._news = asyncio.Event()
        return numbers

    def _wake_all(self) -> None:
        for followers in list(self._asleep.values()):
            for follower in list(followers):
                follower.wake()


class Follower:
    """Reads the log for one caller. Where it stands is all that it keeps."""

    def __init__(self, event_log: EventLog, wanted: Wanted) -> None:
        self._log = event_log
        self._wanted = wanted
        self._cursor = event_log.ring.next_number
        """The ring's number of the next event to look at, unless a stream is read."""
        self._last = event_log.ring.last_position
        self._generation = event_log.generation
        self._woken = asyncio.Event()
        self._hits: list[int] = []
        self._stream: Stream | None = None
        self._unread: Sequence[LoggedEvent] = ()
        self._is_lost = False
        self._is_ended = False
        self._exits = AsyncExitStack()

    @property
    def position(self) -> LogPosition | None:
        """The last event that was looked at, or that was there when it began."""
        return self._last

    @property
    def is_at_end(self) -> bool:
        """Whether it has looked at all that there is."""
        return self._stream is None and self._cursor >= self._log.ring.next_number

    async def begin_after(self, position: LogPosition | None) -> bool:
        """Stand behind an event; return whether it is there. Otherwise this stays at the end."""
        ring = self._log.ring
        if position is None:
            return False
        first = ring.first
        if first is not None and position.place < first.position.place:
            return await self._open_behind(position)
        number = await self._log.number_after(position)
        if number is None:
            self._to_end()
            return False
        self._cursor, self._last = number, position
        return True

    async def begin_at_first(self) -> None:
        """Stand before the oldest event that is kept."""
        if self._log.ring.last is not None:
            await self._open("first")

    async def take(self) -> Taken:
        """Return the next events, once there are any to look at; of those, what is wanted.

        Raises FollowingEndedError, and ConnectionResetError where its own consumer was lost. May be
        cancelled at any time, and called again.
        """
        while True:
            if self._is_ended or self._log.is_closing:
                raise FollowingEndedError
            if self._is_lost or self._log.generation != self._generation:
                return await self._reset()
            events = await self._next()
            if events:
                taken = await self._log.shown(self._wanted, events)
                self._advance(events)
                return taken
            if self.is_at_end:
                await self._sleep()

    def wake(self, number: int | None = None) -> None:
        """Look again, from this number on."""
        if number is not None:
            self._hits.append(number)
        self._woken.set()

    def end(self) -> None:
        """Give no more events."""
        self._is_ended = True
        self._woken.set()

    async def close(self) -> None:
        """End its own consumer."""
        self._stream = None
        await self._exits.aclose()

    async def _next(self) -> Sequence[LoggedEvent]:
        """Return the next events to look at, few enough for one turn."""
        if self._stream is not None:
            return await self._read()
        try:
            return self._log.ring.since(self._cursor, LOOKED_AT_MAX)
        except LookupError:
            # Too slow for the ring: read on in the stream, behind what was looked at last.
            if self._last is None:
                await self._open("first")
            else:
                self._is_lost = not await self._open_behind(self._last)
            return ()

    def _advance(self, events: Sequence[LoggedEvent]) -> None:
        self._last = events[-1].position
        if self._stream is None:
            self._cursor += len(events)
        else:
            self._unread = self._unread[len(events) :]

    async def _read(self) -> Sequence[LoggedEvent]:
        """Return what comes next in the stream; nothing once the ring goes on from there."""
        if self._stream is None:
            raise AssertionError("a stream is read")
        if not self._unread:
            self._unread = await next_events(self._stream, within_s=None)
        first = self._log.ring.first
        count = LOOKED_AT_MAX
        if first is not None:
            start = first.position.place
            count = bisect_left(self._unread, start, key=lambda one: one.position.place)
        if count:
            return self._unread[: min(count, LOOKED_AT_MAX)]
        self._cursor = self._log.ring.first_number
        await self.close()
        return ()

    async def _open_behind(self, position: LogPosition) -> bool:
        """Read the stream behind an event; return whether it is there."""
        await self._open(position.offset)
        rest = behind(self._unread, position)
        if rest is not None:
            self._unread, self._last = rest, position
            return True
        await self.close()
        self._to_end()
        return False

    async def _open(self, start: Start) -> None:
        opening = open_stream(
            self._log.url, EVENTS_LOG, name="ingress-catch-up", start=start, prefetch=PREFETCH
        )
        try:
            await self._exits.enter_async_context(self._log.catching_up)
            self._stream = await self._exits.enter_async_context(opening)
            self._unread = await next_events(self._stream, within_s=ARRIVAL_S)
        except BaseException:
            # Cancelled by a heartbeat, for one: the next try takes its place anew.
            await self.close()
            raise

    async def _reset(self) -> Taken:
        await self.close()
        self._is_lost = False
        self._generation = self._log.generation
        self._to_end()
        return Taken((), self._last, is_reset=True)

    def _to_end(self) -> None:
        self._cursor, self._last = self._log.ring.next_number, self._log.ring.last_position

    async def _sleep(self) -> None:
        """Wait for an event that may be wanted; all others before it need no look."""
        keys = self._wanted.keys
        self._hits.clear()
        self._woken.clear()
        self._log.put_to_sleep(self, keys)
        try:
            await self._woken.wait()
        finally:
            self._log.take_out(self, keys)
            if self._hits:
                self._cursor = self._hits[0]
            else:
                self._to_end()


@asynccontextmanager
async def _following(event_log: EventLog, wanted: Wanted) -> AsyncIterator[Follower]:
    follower = Follower(event_log, wanted)
    try:
        yield follower
    finally:
        await follower.close()


def unavailable(detail: str) -> ContractError:
    """Return why events cannot be followed now."""
    return ContractError(ProblemCode.EVENTS_UNAVAILABLE, detail)
