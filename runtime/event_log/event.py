"""An event as the log keeps it: its id, whom it concerns, what each caller sees; and reading it."""

import asyncio
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import orjson

from contracts.representations.transaction import Json, shown_to
from runtime.access.wallets import NOBODY, Holder, Holders
from runtime.amqp.stream import Stream

ID_MAX: Final = 40
"""Characters of an id that is looked at."""


class LogPosition(NamedTuple):
    """Where an event stands in the log, and a check of its body.

    The place alone would say nothing: a log that was deleted and made anew counts from 0 again.
    """

    offset: int
    """Of the message that holds it."""
    number: int
    """Among the events of that message."""
    check: int

    @classmethod
    def of_id(cls, text: str) -> "LogPosition | None":
        """Return what an id says; None for what no event of ours was called."""
        found = _ID.fullmatch(text[:ID_MAX])
        if found is None:
            return None
        return cls(int(found["offset"]), int(found["number"]), int(found["check"], 16))

    @property
    def id(self) -> str:
        """The id that clients resume by."""
        return f"{self.offset}.{self.number}-{self.check:08x}"

    @property
    def place(self) -> tuple[int, int]:
        """What it is sorted by: the greater is the later one."""
        return self.offset, self.number


_ID: Final = re.compile(r"(?P<offset>[0-9]+)\.(?P<number>[0-9]+)-(?P<check>[0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event of the log, and what has to be known of it to find out who may see it."""

    position: LogPosition
    body: bytes
    id: UUID
    """The same for each time that it is sent."""
    occurred_at: datetime
    type: str
    """What happened, such as `transaction.completed`."""
    transaction_id: str
    submitter: str
    wallet_ids: frozenset[UUID]
    """Every wallet that it names, external ones included."""

    @classmethod
    def read_all(cls, offset: int, body: bytes) -> "list[LoggedEvent]":
        """Return the events of a message of the log, a line each, without what is none of ours."""
        lines = enumerate(body.split(b"\n"))
        read = [cls.read(offset, line, number=number) for number, line in lines]
        return [event for event in read if event is not None]

    @classmethod
    def read(cls, offset: int, body: bytes, *, number: int = 0) -> "LoggedEvent | None":
        """Return the event of one body; None for what is none of ours."""
        try:
            view = orjson.loads(body)
            return cls(
                LogPosition(offset, number, zlib.crc32(body)),
                body,
                UUID(view["event_id"]),
                datetime.fromisoformat(view["occurred_at"]),
                view["event_type"],
                view["id"],
                view["submitter"],
                frozenset(map(UUID, _wallets_named(view))),
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            return None


def _wallets_named(view: Json) -> Iterator[str]:
    for name in ("source_wallet_id", "destination_wallet_id"):
        if view[name] is not None:
            yield view[name]
    for part in ("entries", "legs", "wallets"):
        for one in view[part] or ():
            if one["wallet_id"] is not None:
                yield one["wallet_id"]


Key = tuple[str, str]
"""What a follower is found by: the kind of it, and its value."""
EVERYTHING: Final[Key] = ("all", "")


def keys_of(event: LoggedEvent, holders: Mapping[UUID, Holders]) -> set[Key]:
    """Return under which keys followers of an event may be; `holders` of its wallets."""
    found: set[Key] = {
        EVERYTHING,
        ("transaction", event.transaction_id),
        ("name", event.submitter),
    }
    for wallet_id in event.wallet_ids:
        found.add(("wallet", str(wallet_id)))
        names, owner_id = holders.get(wallet_id, NOBODY)
        found.update(("name", name) for name in names)
        if owner_id is not None:
            found.add(("owner", owner_id))
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events somebody asks for, of those that it may see; None lets any through."""

    holder: Holder | None
    """Who asks; None for one that sees everybody's."""
    wallet_ids: frozenset[UUID] | None = None
    transaction_id: UUID | None = None
    types: frozenset[str] | None = None

    @property
    def keys(self) -> Collection[Key]:
        """The keys under one of which each of these events is; as few events as can be."""
        if self.transaction_id is not None:
            return (("transaction", str(self.transaction_id)),)
        if self.wallet_ids is not None:
            return [("wallet", str(one)) for one in self.wallet_ids]
        if self.holder is None:
            return (EVERYTHING,)
        owner_id = self.holder.owner_id
        return (("name", self.holder.name), *([("owner", owner_id)] if owner_id else ()))

    def shown(self, event: LoggedEvent, holders: Mapping[UUID, Holders]) -> bytes | None:
        """Return an event as who asks sees it; None if it is not wanted, or not to be seen."""
        if not self._matches(event):
            return None
        holder = self.holder
        if holder is None:
            return event.body
        theirs = {str(one) for one in event.wallet_ids if holders.get(one, NOBODY).has(holder)}
        if event.submitter != holder.name and not theirs:
            return None
        return _shown_event(event.body, holder.name, theirs)

    def _matches(self, event: LoggedEvent) -> bool:
        return (
            (self.types is None or event.type in self.types)
            and (self.wallet_ids is None or not self.wallet_ids.isdisjoint(event.wallet_ids))
            and (self.transaction_id is None or str(self.transaction_id) == event.transaction_id)
        )


def wallets_of(events: Iterable[LoggedEvent]) -> set[UUID]:
    """Return every wallet that some events name."""
    return set[UUID]().union(*(event.wallet_ids for event in events))


def _shown_event(body: bytes, name: str, theirs: Collection[str]) -> bytes:
    """Return an event to whom only some wallets belong, as `shown_to` has it."""
    view = orjson.loads(body)
    wallets = [one for one in view["wallets"] if one["wallet_id"] in theirs]
    return orjson.dumps({**shown_to(view, name=name, theirs=theirs), "wallets": wallets})


async def next_events(stream: Stream, *, within_s: float | None) -> list[LoggedEvent]:
    """Return the events that arrive next, at least one; none if nothing of ours does in time.

    They are those of whole messages. Waits without bound where `within_s` is None. Raises
    ConnectionResetError once the stream ended.
    """
    try:
        async with asyncio.timeout(within_s):
            while True:
                messages = await stream.take()
                events = [
                    event
                    for message in messages
                    for event in LoggedEvent.read_all(message.offset, message.body)
                ]
                if events:
                    return events
    except TimeoutError:
        return []


def behind(events: Sequence[LoggedEvent], position: LogPosition) -> Sequence[LoggedEvent] | None:
    """Return what comes after a position, of what begins at its offset; None if it is not there."""
    for number, event in enumerate(events):
        if event.position == position:
            return events[number + 1 :]
        if event.position.place > position.place:
            break
    return None
