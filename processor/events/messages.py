"""What the relay publishes: the events of owed outbox rows, and those that are set aside; pure.

An event that cannot be built fails alone: its neighbours are built as if it were not there. What is
set aside becomes a dead letter, which keeps it until an operator acts.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

import orjson
import structlog

from contracts.messages import (
    CLOUD_EVENTS_SOURCE,
    EVENT_BUNDLE_TYPE,
    JSON_LINES,
    MESSAGE_BYTES_MAX,
    REQUEST_ID_HEADER,
    TRACEPARENT_HEADER,
    DeadLetterReason,
)
from contracts.representations.event import (
    NO_LIMITS,
    Limits,
    PostedRow,
    event_body,
    posted_event_body,
)
from contracts.representations.transaction import Row
from contracts.topology import EVENT_BUNDLES, EVENTS_EXCHANGE
from processor import metrics
from processor.events.buffer import Buffered, BufferedBatch, BufferedViews
from processor.events.owed import NOTHING_KNOWN, Owed, WalletsAfter
from runtime.amqp.publisher import Outgoing, text_header, text_headers

DETAIL_MAX: Final = 500
"""Characters of an error: enough to recognize it."""
SEVERAL: Final = "several"
"""Stands for the currency in the routing key of a journal in more than one, or of what refers to
nothing."""
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
OCTETS_MAX: Final = MESSAGE_BYTES_MAX
"""Of a bundle; an event that is larger goes alone. Brokers take 16 MiB and more."""

log = structlog.get_logger()


class Place(NamedTuple):
    """One event: the outbox row that owes it, and its transaction."""

    outbox_id: UUID
    transaction_id: UUID


Source: TypeAlias = Buffered | Mapping[UUID, Row]
"""Where the transactions of a part are: in memory, or read, as rows of `transaction_views`."""


class Stretch(NamedTuple):
    """Events of one outbox row, their transactions, and their routing keys.

    None for the key of one whose transaction is not there, or cannot be told.
    """

    owed: Owed
    source: Source
    keys: Sequence[str | None]

    def cut(self, at: int) -> "tuple[Stretch, Stretch]":
        """Return the first `at` events, and the others."""
        count = len(self.keys)
        return self.select(range(at)), self.select(range(at, count))

    def select(self, numbers: Sequence[int]) -> "Stretch":
        """Return some of the events, by their places here."""
        owed = self.owed
        part = owed._replace(
            transaction_ids=[owed.transaction_ids[one] for one in numbers],
            positions=[owed.positions[one] for one in numbers],
        )
        return Stretch(part, self.source, [self.keys[one] for one in numbers])


def stretch_of(owed: Owed, source: Source) -> Stretch:
    """Return events with what is known of their transactions."""
    event_type = owed.event_type
    if isinstance(source, BufferedBatch):
        kinds = source.kinds(owed.positions)
        return Stretch(owed, source, [_routing_key(event_type, *one) for one in kinds])
    if isinstance(source, BufferedViews):
        found = [source.kind(one) for one in owed.transaction_ids]
        keys = [_routing_key(event_type, one, currency or SEVERAL) for one, currency in found]
        return Stretch(owed, source, keys)
    return Stretch(
        owed, source, [_key_of(event_type, source.get(one)) for one in owed.transaction_ids]
    )


def keys_at_most(owed: Owed, source: Source | None) -> set[str] | None:
    """Return routing keys of which a row's events have no others; None where that takes a look."""
    if not isinstance(source, BufferedBatch):
        return None
    return {_routing_key(owed.event_type, *one) for one in source.all_kinds}


def _key_of(event_type: str, row: Row | None) -> str | None:
    if row is None:
        return None
    try:
        currency = row["currency"] or _currency_of(row["legs"])
    except (KeyError, ValueError, TypeError, IndexError):
        return None  # whoever builds the event says what is wrong with it
    return _routing_key(event_type, row["type"], currency)


class TransactionUnreadableError(Exception):
    """The transaction of an event is not there, or cannot be read."""


@dataclass(slots=True)
class BuiltFlight:
    """The messages of a flight, and what could not be built of it."""

    parts: Sequence[Owed]
    messages: list[Outgoing]
    broken: dict[Place, Exception] = field(default_factory=dict)

    def only(self, stretches: Sequence[Stretch]) -> "BuiltFlight":
        """Return what was built of some of its events."""
        found = dict(zip(self.places(), self.messages, strict=True))
        part = BuiltFlight([stretch.owed for stretch in stretches], [], dict(self.broken))
        part.messages = [found[place] for place in part.places()]
        return part

    def ask(self, routing_key: str | None) -> None:
        """Have the last event come back if no queue takes it, provided that it has this key.

        Where it could not be built, nothing is asked.
        """
        if self.messages and self.messages[-1].routing_key == routing_key:
            self.messages[-1] = self.messages[-1]._replace(is_mandatory=True)

    def places(self) -> list[Place]:
        """Return which event each message is."""
        return [
            place
            for part in self.parts
            for one in part.transaction_ids
            if (place := Place(part.outbox_id, one)) not in self.broken
        ]


class Flight(NamedTuple):
    """What is sent together, and what nobody receives of the rows up to its end."""

    parts: list[Owed]
    unheard: list[Owed]
    ended: list[UUID]
    """The rows of which nothing is behind it, in their order."""


def flights(
    owed: Sequence[Owed],
    size: int,
    *,
    first: int | None = None,
    is_unheard: Callable[[Owed], bool] = lambda _: False,
) -> Iterator[Flight]:
    """Cut what is owed into flights of `size` events, in order; the last may be smaller.

    `first`: the size of the first one, if it is another. `is_unheard` is asked of what is left of
    each row, as late as possible: whether nobody receives any of it.
    """
    flight = Flight([], [], [])
    room = first or size
    for one in owed:
        count = len(one.transaction_ids)
        start = 0
        while start < count:
            is_passed_over = is_unheard(one)
            stop = count if is_passed_over else min(start + room, count)
            part = one._replace(
                transaction_ids=one.transaction_ids[start:stop], positions=range(start, stop)
            )
            if stop == count:
                flight.ended.append(one.outbox_id)
            if is_passed_over:
                flight.unheard.append(part)
                break
            flight.parts.append(part)
            room -= stop - start
            start = stop
            if not room:
                yield flight
                flight, room = Flight([], [], []), size
    if flight.ended:
        yield flight


def build(stretches: Sequence[Stretch]) -> BuiltFlight:
    """Return the messages of a flight."""
    parts = [stretch.owed for stretch in stretches]
    try:
        messages: list[Outgoing] = []
        for part, source, _ in stretches:
            messages += _messages(part, source)
    except Exception:  # noqa: BLE001  # whatever it is, one event's fault is not its neighbours'
        return _build_each(stretches)
    return BuiltFlight(parts, messages)


def _build_each(stretches: Sequence[Stretch]) -> BuiltFlight:
    flight = BuiltFlight([stretch.owed for stretch in stretches], [])
    for part, source, _ in stretches:
        for position, one in zip(part.positions, part.transaction_ids, strict=True):
            single = part._replace(transaction_ids=[one], positions=[position])
            try:
                flight.messages += _messages(single, source)
            except Exception as error:  # noqa: BLE001  # it is set aside, with its error
                flight.broken[Place(part.outbox_id, one)] = error
    return flight


def _messages(part: Owed, source: Source) -> list[Outgoing]:
    after = part.wallets
    if isinstance(source, BufferedBatch):
        posted = source.rows(part.positions)
        return [posted_message(part, row, after.limits) for row in posted]
    return [event_message(part, _found(source, one), after) for one in part.transaction_ids]


def _found(rows: BufferedViews | Mapping[UUID, Row], transaction_id: UUID) -> Row:
    row = rows.get(transaction_id)
    if row is None:
        raise TransactionUnreadableError("the transaction is not there, or cannot be read")
    return row


def event_message(owed: Owed, transaction: Row, after: WalletsAfter = NOTHING_KNOWN) -> Outgoing:
    """Return the message that tells of a row of `transaction_views`, as it is now."""
    event_id = owed.event_id(transaction["id"])
    body = event_body(
        transaction,
        event_id=event_id,
        event_type=f"transaction.{owed.event_type}",
        occurred_at=owed.occurred_at,
        wallets=after.of(transaction["id"]),
        limits=after.limits,
    )
    headers = _headers(
        owed, event_id, transaction["id"], transaction["traceparent"], transaction["request_id"]
    )
    currency = transaction["currency"] or _currency_of(transaction["legs"])
    return _message(
        owed.event_type,
        transaction["type"],
        currency,
        body,
        headers,
        traceparent=transaction["traceparent"],
    )


def _currency_of(legs: str | None) -> str:
    """Return the one currency of a journal's legs, as the view has them."""
    currencies = {leg[1] for leg in orjson.loads(legs or "[]")}
    return currencies.pop() if len(currencies) == 1 else SEVERAL


def posted_message(owed: Owed, transaction: PostedRow, limits: Limits = NO_LIMITS) -> Outgoing:
    """Return the same for a row that is known to be posted."""
    event_id = owed.event_id(transaction.id)
    body = posted_event_body(
        transaction,
        event_id=event_id,
        event_type=f"transaction.{owed.event_type}",
        occurred_at=owed.occurred_at,
        limits=limits,
    )
    headers = _headers(
        owed, event_id, transaction.id, transaction.traceparent, transaction.request_id
    )
    return _message(
        owed.event_type,
        transaction.type,
        transaction.currency,
        body,
        headers,
        traceparent=transaction.traceparent,
    )


def _message(
    event_type: str,
    kind: str,
    currency: str,
    body: bytes,
    headers: bytes,
    *,
    traceparent: str | None,
) -> Outgoing:
    return Outgoing(
        exchange=EVENTS_EXCHANGE,
        routing_key=_routing_key(event_type, kind, currency),
        body=body,
        type=_message_type(event_type),
        headers=headers,
        # Nobody has to listen: an event without a subscriber is not a failure.
        is_mandatory=False,
        traceparent=traceparent,
    )


@functools.cache  # as many answers as types and currencies
def _routing_key(event_type: str, kind: str, currency: str) -> str:
    return f"transaction.{event_type}.{kind}.{currency}"


@functools.cache
def _message_type(event_type: str) -> str:
    return f"transaction.{event_type}.v1"


def _headers(
    owed: Owed,
    event_id: str,
    transaction_id: UUID,
    traceparent: str | None,
    request_id: str | None,
) -> bytes:
    """CloudEvents' attributes, and what the request was called, if it was called anything."""
    headers = (
        _shared_headers(owed.event_type, owed.occurred_at)
        + text_header("cloudEvents_id", event_id)
        + text_header("cloudEvents_subject", str(transaction_id))
    )
    if traceparent is not None:
        headers += text_header(TRACEPARENT_HEADER, traceparent)
    if request_id is not None:
        headers += text_header(REQUEST_ID_HEADER, request_id)
    return headers


@functools.lru_cache(maxsize=64)  # the events of a commit share theirs
def _shared_headers(event_type: str, occurred_at: str) -> bytes:
    """Return what CloudEvents 1.0 asks for in the binary mode of its AMQP binding."""
    return text_headers(
        {
            "cloudEvents_source": CLOUD_EVENTS_SOURCE,
            "cloudEvents_specversion": "1.0",
            "cloudEvents_time": occurred_at,
            "cloudEvents_type": f"transaction.{event_type}",
        }
    )


class SetAsideEvent(NamedTuple):
    """One event as a dead letter keeps it."""

    place: Place
    reason: DeadLetterReason
    detail: str
    body: bytes
    """What `dead_letters.replay` owes it anew by."""


class RefusedEvent(NamedTuple):
    """One event that a queue refused."""

    place: Place
    routing_key: str
    """The line that it waits in: its routing key, or the exchange's name for one in a bundle."""


def set_aside(
    owed: Owed, transaction_id: UUID, reason: DeadLetterReason, detail: str
) -> SetAsideEvent:
    """Return an event as its dead letter has it."""
    body = orjson.dumps(
        {
            "event_id": owed.event_id(transaction_id),
            "event_type": owed.event_type,
            "origin_id": str(owed.origin_id or owed.outbox_id),
            "transaction_id": str(transaction_id),
            "occurred_at": owed.occurred_at,
            "wallets": owed.wallets.only(transaction_id),
        }
    )
    return SetAsideEvent(Place(owed.outbox_id, transaction_id), reason, _storable(detail), body)


def not_sent(owed: Owed, transaction_id: UUID, error: Exception) -> SetAsideEvent:
    """Return the same for an event that could not be built or written."""
    detail = f"{type(error).__name__}: {error}"
    return set_aside(owed, transaction_id, DeadLetterReason.EVENT_NOT_SENT, detail)


def tell_set_aside(events: Sequence[SetAsideEvent]) -> None:
    """Count and log what was set aside, each event once."""
    for event in events:
        metrics.EVENTS_SET_ASIDE.labels(event.reason.value).inc()
        log.error(
            "event_set_aside",
            transaction_id=str(event.place.transaction_id),
            reason=event.reason.value,
            detail=event.detail,
        )


class Landing(NamedTuple):
    """What the broker said of a flight's messages: it has all but these."""

    refused: Sequence[int] = ()
    """Their places among the messages, in ascending order."""
    is_heard: bool = True
    """Whether a queue took the last one."""


ALL_LANDED: Final = Landing()


class Settlement:
    """What became of the events of a round, flight by flight, and which rows are done with.

    An event goes to the log, if there is one, and to whoever receives it singly; a row is done with
    when both is known of its every event, and each event counts once.
    """

    def __init__(self, owed: Sequence[Owed]) -> None:
        self._rows = {one.outbox_id: one for one in owed}
        self._open = {one.outbox_id: len(one.transaction_ids) for one in owed}
        self._unlogged: dict[UUID, int] = {}
        self._set_aside: dict[Place, SetAsideEvent] = {}
        self._taken_back: set[Place] = set()
        self.refused: list[RefusedEvent] = []
        self.confirmed: Counter[str] = Counter()
        self.unheard: Counter[str] = Counter()

    @property
    def is_logged(self) -> bool:
        """Whether the events go to the log, too."""
        return bool(self._unlogged)

    def begin_log(self) -> None:
        """From the first flight on they do."""
        self._unlogged = {one: len(owed.transaction_ids) for one, owed in self._rows.items()}

    def log(self, flight: BuiltFlight, landing: Landing = ALL_LANDED) -> None:
        """Take a flight that the log has, and whoever takes bundles, but for those refused."""
        for part in flight.parts:
            self._unlogged[part.outbox_id] -= len(part.transaction_ids)
            self.confirmed[part.event_type] += len(part.transaction_ids)
        if landing.refused:
            self._note_refused(flight, landing.refused, [EVENT_BUNDLES] * len(flight.messages))
        self._note_broken(flight)

    def pass_over(self, parts: Sequence[Owed]) -> None:
        """Take events that nobody receives singly: done with, unsent."""
        for part in parts:
            self._open[part.outbox_id] -= len(part.transaction_ids)
            if not self.is_logged:
                self.unheard[part.event_type] += len(part.transaction_ids)

    def land(self, flight: BuiltFlight, landing: Landing = ALL_LANDED) -> None:
        """Take a flight of single events of which all is known."""
        for part in flight.parts:
            self._open[part.outbox_id] -= len(part.transaction_ids)
            if not self.is_logged:
                self.confirmed[part.event_type] += len(part.transaction_ids)
        if not landing.is_heard and not self.is_logged:
            self.confirmed[flight.parts[-1].event_type] -= 1
            self.unheard[flight.parts[-1].event_type] += 1
        if landing.refused:
            keys = [message.routing_key for message in flight.messages]
            self._note_refused(flight, landing.refused, keys)
        self._note_broken(flight)

    def _note_refused(
        self, flight: BuiltFlight, refused: Sequence[int], lines: Sequence[str]
    ) -> None:
        places = flight.places()
        for number in refused:
            self.refused.append(RefusedEvent(places[number], lines[number]))
            self._take_back(places[number])

    def _take_back(self, place: Place) -> None:
        """Count an event as confirmed no more, once, though it may be refused in two ways."""
        if place not in self._taken_back:
            self._taken_back.add(place)
            self.confirmed[self._rows[place.outbox_id].event_type] -= 1

    def _note_broken(self, flight: BuiltFlight) -> None:
        for place, error in flight.broken.items():
            if place not in self._set_aside:
                owed = self._rows[place.outbox_id]
                self._set_aside[place] = not_sent(owed, place.transaction_id, error)
                self._take_back(place)

    @property
    def set_aside(self) -> Sequence[SetAsideEvent]:
        """What could not be built or sent."""
        return list(self._set_aside.values())

    @property
    def ended(self) -> list[UUID]:
        """The rows whose every event is known."""
        return [one for one in self._open if self._is_ended(one)]

    @property
    def unfinished(self) -> list[UUID]:
        """The rows that another round has to take."""
        return [one for one in self._open if not self._is_ended(one)]

    def _is_ended(self, outbox_id: UUID) -> bool:
        return not self._open[outbox_id] and not self._unlogged.get(outbox_id)

    def only_ended(self) -> tuple[list[RefusedEvent], list[SetAsideEvent]]:
        """Return what was refused and set aside of the rows that are done with.

        In the order in which they were posted, whichever flight landed first.
        """
        if not self.refused and not self._set_aside:
            return [], []
        order = {
            Place(outbox_id, one): (row, number)
            for row, outbox_id in enumerate(self._rows)
            if self._is_ended(outbox_id)
            for number, one in enumerate(self._rows[outbox_id].transaction_ids)
        }
        return (
            sorted((one for one in self.refused if one.place in order), key=_by_place(order)),
            sorted((one for one in self.set_aside if one.place in order), key=_by_place(order)),
        )


def _by_place(
    order: Mapping[Place, tuple[int, int]],
) -> Callable[[RefusedEvent | SetAsideEvent], tuple[int, int]]:
    return lambda one: order[one.place]


def _storable(text: str) -> str:
    """Text that PostgreSQL stores, bounded."""
    return text[:DETAIL_MAX].encode(errors="replace").decode().replace("\x00", _REPLACEMENT)


def bundles_of(events: Sequence[Outgoing], *, is_mandatory: bool = True) -> list[Outgoing]:
    """Return events, in their order, as the log gets them: one message unless they are large."""
    return [
        Outgoing(
            exchange=EVENT_BUNDLES,
            routing_key="",
            body=b"\n".join(bodies),
            type=EVENT_BUNDLE_TYPE,
            content_type=JSON_LINES,
            is_mandatory=is_mandatory,
        )
        for bodies in _cut([_line(event.body) for event in events])
    ]


def events_of(messages: Sequence[Outgoing], numbers: Sequence[int]) -> list[int]:
    """Return the places of the events that are in some of the messages, among those of all."""
    ends = list(accumulate(map(_count, messages)))
    return [at for one in numbers for at in range(ends[one] - _count(messages[one]), ends[one])]


def _count(message: Outgoing) -> int:
    return message.body.count(b"\n") + 1 if message.exchange == EVENT_BUNDLES else 1


def _line(body: bytes) -> bytes:
    # In JSON the end of a line is a space between two tokens, or escaped.
    return body.replace(b"\n", b" ")


def _cut(bodies: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield bodies that travel together; nearly always all of them do."""
    start = size = 0
    for number, body in enumerate(bodies):
        if size and size + len(body) > OCTETS_MAX:
            yield bodies[start:number]
            start, size = number, 0
        size += len(body) + 1  # with the end of its line
    if bodies:
        yield bodies[start:]
