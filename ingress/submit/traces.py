"""The spans of what becomes of a submission: its insert, and its announcement to the broker."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from contracts.record import RecordedRow, Submission
from contracts.topology import partition_queue
from runtime.tracing.spans import (
    NO_TRACER,
    UNNAMED,
    AnnouncementTraces,
    Attributes,
    AttributeValue,
    Span,
    SpanKind,
    TraceContext,
    Tracer,
    child_of,
    sampled_context,
)

Traced = Mapping[UUID, TraceContext]
"""The requests whose traces are kept, by the transactions that they asked for."""

NONE_TRACED: Final[Traced] = {}


class SubmissionTraces:
    """Records spans beneath those of the requests; each request has its own of a shared insert."""

    def __init__(
        self,
        tracer: Tracer = NO_TRACER,
        *,
        database: Attributes = UNNAMED,
        broker: Attributes = UNNAMED,
    ) -> None:
        """`database` and `broker` are the attributes that name these servers."""
        self._tracer = tracer
        self.is_on = tracer.is_on
        self._insert: Attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": "INSERT",
            "db.collection.name": "transactions",
            **database,
        }
        self._announcements = AnnouncementTraces(tracer, broker=broker)

    def recorded(
        self,
        group: Sequence[Submission],
        rows: Sequence[RecordedRow | Exception],
        *,
        began_ns: int,
    ) -> Traced:
        """Record the insert of a group that ended now; return those whose traces are kept."""
        ended_ns = time.time_ns()
        traced: dict[UUID, TraceContext] = {}
        for submission, row in zip(group, rows, strict=True):
            parent = sampled_context(submission.traceparent)
            if parent is None:
                continue
            attributes: dict[str, AttributeValue] = {**self._insert}
            if len(group) > 1:
                attributes["db.operation.batch.size"] = len(group)
            if isinstance(row, RecordedRow):
                traced[row.id] = parent
                attributes["ackledger.transaction.id"] = str(row.id)
            else:
                attributes["error.type"] = type(row).__name__
            self._tracer.record(
                Span(
                    "INSERT transactions",
                    SpanKind.CLIENT,
                    child_of(parent),
                    began_ns,
                    ended_ns,
                    attributes,
                    parent=parent,
                    is_error=not isinstance(row, RecordedRow),
                )
            )
        return traced

    def announcing(self, confirmed: asyncio.Future[bool], partition: int, traced: Traced) -> None:
        """Record, once the broker has them or never will, that transactions were announced."""
        if traced:
            sent = partial(self._announced, partition, traced, time.time_ns())
            confirmed.add_done_callback(sent)

    def _announced(
        self, partition: int, traced: Traced, began_ns: int, confirmed: asyncio.Future[bool]
    ) -> None:
        if confirmed.cancelled():
            return
        self._announcements.announced(
            partition_queue(partition), traced, began_ns=began_ns, is_confirmed=confirmed.result()
        )
