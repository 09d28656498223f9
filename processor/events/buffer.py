"""What this process has just posted, so that the relay need not read it again to tell of it.

The outbox row stays the promise: what is not here any more, or was posted by another process, is
read from the database.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import structlog

from contracts.record import RecordedView
from contracts.representations.event import PostedRow
from contracts.representations.transaction import Row
from ledger.state import Posted
from runtime.service.periodic import is_set_within

RECENT_MAX: Final = 8_192
"""Transactions; beyond them posting waits for the relay."""
PATIENCE_S: Final = 1.0
"""A relay that has told of nothing for so long is not waited for."""

log = structlog.get_logger()


class BufferedBatch:
    """The posted transactions of one commit: as they were recorded, and what became of them."""

    def __init__(
        self, recorded: Mapping[UUID, RecordedView], posted: Sequence[Posted], at: datetime
    ) -> None:
        self._recorded = recorded
        self._posted = posted
        self._at = at

    def __len__(self) -> int:
        """How many transactions were posted."""
        return len(self._posted)

    def kinds(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Return type and currency of some, by their places in the order of posting."""
        recorded, posted = self._recorded, self._posted
        rows = [recorded[posted[one].transaction_id] for one in positions]
        return [(row["type"], row["currency"]) for row in rows]

    def rows(self, positions: Sequence[int]) -> list[PostedRow]:
        """Return some as `transaction_views` has them since the commit, by the same places."""
        recorded, posted, at = self._recorded, self._posted, self._at
        chosen = [posted[one] for one in positions]
        return [_posted_row(recorded[one.transaction_id], one, at) for one in chosen]


class BufferedViews(ABC):
    """The posted transactions of one commit, of any type, by their ids."""

    @abstractmethod
    def __len__(self) -> int:
        """How many were posted."""

    @abstractmethod
    def kind(self, transaction_id: UUID) -> tuple[str, str | None]:
        """Return type and currency of one; None where it has several."""

    @abstractmethod
    def get(self, transaction_id: UUID) -> Row:
        """Return one as `transaction_views` has it since the commit."""


Buffered: TypeAlias = BufferedBatch | BufferedViews


class EventBuffer:
    """The last batches that were committed here, by their rows in the outbox."""

    def __init__(self) -> None:
        self._batches: dict[UUID, Buffered] = {}
        self._size = 0
        self._told = asyncio.Event()

    def keep(self, outbox_id: UUID, batch: Buffered) -> None:
        """Remember a batch until it is told of."""
        self._batches[outbox_id] = batch
        self._size += len(batch)

    def get(self, outbox_id: UUID) -> Buffered | None:
        """Return a batch, if it is still known."""
        return self._batches.get(outbox_id)

    def forget(self, outbox_id: UUID) -> None:
        """Let go of what is told, and of what was posted before it: others tell of that."""
        if outbox_id not in self._batches:
            return
        while True:
            oldest = next(iter(self._batches))
            self._size -= len(self._batches.pop(oldest))
            if oldest == outbox_id:
                break
        self._told.set()

    async def room(self) -> None:
        """Wait for the relay while there is much to tell: posting never runs away from its events.

        Read again from the tables, an event costs twice as much. Where the relay stands still, what
        is kept is forgotten, and posting goes on.
        """
        while self._size >= RECENT_MAX:
            self._told.clear()
            if not await is_set_within(self._told, PATIENCE_S):
                log.info("events_left_behind", count=self._size)
                self._batches.clear()
                self._size = 0


def _posted_row(recorded: RecordedView, posted: Posted, at: datetime) -> PostedRow:
    (
        transaction_id, kind, source, destination, amount, currency, key, submitter, channel,
        description, metadata, request_id, traceparent, _, created_at, *_,
    ) = recorded.values()  # fmt: skip
    return PostedRow(
        transaction_id, key, submitter, channel, kind, source, destination, amount, currency,
        "COMPLETED", description, metadata, posted.source_sequence, posted.source_balance,
        posted.destination_sequence, posted.destination_balance, created_at, at, request_id,
        traceparent,
    )  # fmt: skip
