"""Events that are set aside: the dead letters that keep them until an operator acts; pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import orjson
import structlog

from contracts.messages import DeadLetterReason
from processor import metrics
from processor.events import BuiltFlight, Owed, Place

DETAIL_MAX: Final = 500
"""Characters of an error: enough to recognize it."""
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

log = structlog.get_logger()


class SetAside(NamedTuple):
    """One event as a dead letter keeps it."""

    place: Place
    reason: DeadLetterReason
    detail: str
    body: bytes
    """What `dead_letters.replay` owes it anew by."""


class Refused(NamedTuple):
    """One event that a queue refused."""

    place: Place
    routing_key: str


def set_aside(owed: Owed, transaction_id: UUID, reason: DeadLetterReason, detail: str) -> SetAside:
    """Return an event as its dead letter has it."""
    body = orjson.dumps(
        {
            "event_id": owed.event_id(transaction_id),
            "event_type": owed.event_type,
            "origin_id": str(owed.origin_id or owed.outbox_id),
            "transaction_id": str(transaction_id),
            "occurred_at": owed.occurred_at,
        }
    )
    return SetAside(Place(owed.outbox_id, transaction_id), reason, _storable(detail), body)


def not_sent(owed: Owed, transaction_id: UUID, error: Exception) -> SetAside:
    """Return the same for an event that could not be built or written."""
    detail = f"{type(error).__name__}: {error}"
    return set_aside(owed, transaction_id, DeadLetterReason.EVENT_NOT_SENT, detail)


def tell_set_aside(events: Sequence[SetAside]) -> None:
    """Count and log what was set aside, each event once."""
    for event in events:
        metrics.EVENTS_SET_ASIDE.labels(event.reason.value).inc()
        log.error(
            "event_set_aside",
            transaction_id=str(event.place.transaction_id),
            reason=event.reason.value,
            detail=event.detail,
        )


class Settlement:
    """What became of the events of a round, flight by flight, and which rows are done with."""

    def __init__(self, owed: Sequence[Owed]) -> None:
        self._rows = {one.outbox_id: one for one in owed}
        self._open = {one.outbox_id: len(one.transaction_ids) for one in owed}
        self.refused: list[Refused] = []
        self.set_aside: list[SetAside] = []
        self.confirmed: Counter[str] = Counter()

    def land(self, flight: BuiltFlight, refused: Sequence[int] = ()) -> None:
        """Take a flight of which all is known: confirmed, but for these places, and what broke."""
        for part in flight.parts:
            self._open[part.outbox_id] -= len(part.transaction_ids)
            self.confirmed[part.event_type] += len(part.transaction_ids)
        if not refused and not flight.broken:
            return
        places = flight.places()
        for number in refused:
            place = places[number]
            self.refused.append(Refused(place, flight.messages[number].routing_key))
            self.confirmed[self._rows[place.outbox_id].event_type] -= 1
        for place, error in flight.broken.items():
            owed = self._rows[place.outbox_id]
            self.set_aside.append(not_sent(owed, place.transaction_id, error))
            self.confirmed[owed.event_type] -= 1

    @property
    def ended(self) -> list[UUID]:
        """The rows whose every event is known."""
        return [one for one, left in self._open.items() if left == 0]

    @property
    def unfinished(self) -> list[UUID]:
        """The rows that another round has to take."""
        return [one for one, left in self._open.items() if left]

    def only_ended(self) -> tuple[list[Refused], list[SetAside]]:
        """Return what was refused and set aside of the rows that are done with.

        In the order in which they were posted, whichever flight landed first.
        """
        if not self.refused and not self.set_aside:
            return [], []
        order = {
            Place(outbox_id, one): (row, number)
            for row, outbox_id in enumerate(self._rows)
            if self._open[outbox_id] == 0
            for number, one in enumerate(self._rows[outbox_id].transaction_ids)
        }
        return (
            sorted((one for one in self.refused if one.place in order), key=_by_place(order)),
            sorted((one for one in self.set_aside if one.place in order), key=_by_place(order)),
        )


def _by_place(
    order: Mapping[Place, tuple[int, int]],
) -> Callable[[Refused | SetAside], tuple[int, int]]:
    return lambda one: order[one.place]


def _storable(text: str) -> str:
    """Text that PostgreSQL stores, bounded."""
    return text[:DETAIL_MAX].encode(errors="replace").decode().replace("\x00", _REPLACEMENT)
