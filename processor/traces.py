"""The spans of posting and of events, each beneath the span that a transaction's row names."""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from contracts.record import RecordedView
from contracts.topology import EVENT_BUNDLES
from ledger.state import BookPosting, Posting
from ledger.words import TransactionStatus
from processor.events.messages import BuiltFlight, Landing, Place
from runtime.amqp.publisher import Outgoing
from runtime.tracing.spans import (
    NO_TRACER,
    UNNAMED,
    Attributes,
    AttributeValue,
    Span,
    SpanKind,
    TraceContext,
    Tracer,
    child_of,
    new_context,
    sampled_context,
)

_RABBITMQ: Final[Attributes] = {"messaging.system": "rabbitmq"}
_COMPLETED: Final = (TransactionStatus.COMPLETED.value, None)
_HELD_BACK: Final = (TransactionStatus.PENDING.value, None)
"""A rule keeps it for review: it is neither posted nor refused."""


class PostingTimes(NamedTuple):
    """When a batch began to be read and to be written, and was committed, in ns since 1970."""

    began: int
    writing: int
    ended: int


class PostingTraces:
    """Records each committed batch in a trace of its own, linked to those of its transactions.

    Each of these has a span for its posting too, so that its own trace shows it. A batch of which
    no transaction's trace is kept leaves none.
    """

    def __init__(
        self,
        tracer: Tracer = NO_TRACER,
        *,
        queue: str = "",
        database: Attributes = UNNAMED,
        broker: Attributes = UNNAMED,
    ) -> None:
        """`queue` is what the batches are taken from; the others name the servers."""
        self._tracer = tracer
        self.is_on = tracer.is_on
        self._batch_name = f"process {queue}"
        self._process: Attributes = {
            **_RABBITMQ,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": queue,
            **broker,
        }
        self._commit: Attributes = {
            "db.system.name": "postgresql",
            "db.query.summary": "COMMIT batch",
            **database,
        }

    def posted(
        self,
        rows: Sequence[RecordedView],
        posting: Posting | BookPosting,
        *,
        began_ns: int,
        writing_ns: int,
    ) -> None:
        """Record a batch that was committed now, of the rows that were PENDING, in their order."""
        parents = [sampled_context(row["traceparent"]) for row in rows]
        links = [one for one in parents if one is not None]
        if not links:
            return
        times = PostingTimes(began_ns, writing_ns, time.time_ns())
        batch = new_context()
        self._record_batch(batch, links, times, transactions=len(rows))
        outcomes = _outcomes(posting)
        for row, parent in zip(rows, parents, strict=True):
            if parent is not None:
                outcome = outcomes.get(row["id"], _HELD_BACK)
                self._record_posting(row, parent, outcome, times, batch)

    def _record_batch(
        self,
        batch: TraceContext,
        links: Sequence[TraceContext],
        times: PostingTimes,
        *,
        transactions: int,
    ) -> None:
        attributes = {**self._process, "ackledger.batch.transactions": transactions}
        self._tracer.record(
            Span(
                self._batch_name,
                SpanKind.CONSUMER,
                batch,
                times.began,
                times.ended,
                attributes,
                links=links,
            )
        )
        self._tracer.record(
            Span(
                "COMMIT batch",
                SpanKind.CLIENT,
                child_of(batch),
                times.writing,
                times.ended,
                {**self._commit, "db.operation.batch.size": transactions}
                if transactions > 1
                else self._commit,
                parent=batch,
            )
        )

    def _record_posting(
        self,
        row: RecordedView,
        parent: TraceContext,
        outcome: tuple[str, str | None],
        times: PostingTimes,
        batch: TraceContext,
    ) -> None:
        status, failure_code = outcome
        attributes: dict[str, AttributeValue] = {
            "ackledger.transaction.id": str(row["id"]),
            "ackledger.transaction.type": row["type"],
            "ackledger.transaction.status": status,
        }
        if failure_code is not None:
            attributes["ackledger.transaction.failure_code"] = failure_code
        self._tracer.record(
            Span(
                "post transaction",
                SpanKind.CONSUMER,
                child_of(parent),
                times.began,
                times.ended,
                {**self._process, **attributes},
                parent=parent,
                links=(batch,),
            )
        )


class EventTraces:
    """Records each event that the broker took, beneath the span that its row names."""

    def __init__(self, tracer: Tracer = NO_TRACER, *, broker: Attributes = UNNAMED) -> None:
        """`broker` are the attributes that name it."""
        self._tracer = tracer
        self.is_on = tracer.is_on
        self._send: Attributes = {
            **_RABBITMQ,
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            **broker,
        }

    def sent(self, flight: BuiltFlight, landing: Landing, *, began_ns: int) -> None:
        """Record the events of a flight that landed now; those that were refused are errors.

        One that only asked whether any queue takes it, and came back, was not sent.
        """
        refused = set(landing.refused)
        count = len(flight.messages) - (not landing.is_heard)
        for number, (message, place) in enumerate(
            zip(flight.messages[:count], flight.places()[:count], strict=True)
        ):
            destination: dict[str, AttributeValue] = {
                "messaging.destination.name": f"{message.exchange}:{message.routing_key}",
                "messaging.rabbitmq.destination.routing_key": message.routing_key,
                "messaging.message.body.size": len(message.body),
            }
            self._record(message, place, destination, began_ns=began_ns, is_error=number in refused)

    def logged(self, flight: BuiltFlight, landing: Landing, *, began_ns: int) -> None:
        """Record the events of a flight that landed in bundles; those refused are errors."""
        refused = set(landing.refused)
        destination: dict[str, AttributeValue] = {
            "messaging.destination.name": EVENT_BUNDLES,
            "messaging.batch.message_count": len(flight.messages),
        }
        for number, (message, place) in enumerate(
            zip(flight.messages, flight.places(), strict=True)
        ):
            logged = message._replace(exchange=EVENT_BUNDLES)
            is_error = number in refused
            self._record(logged, place, destination, began_ns=began_ns, is_error=is_error)

    def _record(
        self,
        message: Outgoing,
        place: Place,
        destination: Attributes,
        *,
        began_ns: int,
        is_error: bool,
    ) -> None:
        parent = sampled_context(message.traceparent)
        if parent is None:
            return
        transaction = {"ackledger.transaction.id": str(place.transaction_id)}
        self._tracer.record(
            Span(
                f"publish {message.exchange}",
                SpanKind.PRODUCER,
                child_of(parent),
                began_ns,
                time.time_ns(),
                {**self._send, **destination, **transaction},
                parent=parent,
                is_error=is_error,
            )
        )


def _outcomes(posting: Posting | BookPosting) -> dict[UUID, tuple[str, str | None]]:
    """Return status and failure code of each transaction that ended."""
    found: dict[UUID, tuple[str, str | None]] = {
        one.transaction_id: _COMPLETED for one in posting.posted
    }
    for refused in posting.refused:
        found[refused.transaction_id] = (TransactionStatus.FAILED.value, refused.code.value)
    return found
