"""What this process has just posted, so that the relay need not read it again to tell of it.

The outbox row stays the promise: what is not here any more, or was posted by another process, is
read from the database.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from contracts.recording import RecordedView
from contracts.views import Row
from processor.ledger import Posted

RECENT_MAX: Final = 8_192
"""Transactions; beyond them the oldest batch is forgotten."""


class RecentBatch:
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

    # Made when the relay comes to it: while a batch is kept, the next one waits to be written.
    @cached_property
    def _by_id(self) -> dict[UUID, Posted]:
        return {one.transaction_id: one for one in self._posted}

    def row(self, transaction_id: UUID) -> Row:
        """Return a transaction as `transaction_views` has it since the commit."""
        one = self._by_id[transaction_id]
        row: dict[str, Any] = dict(self._recorded[transaction_id].items())
        row["status"] = "COMPLETED"
        row["source_sequence"] = one.source_sequence
        row["source_balance_after"] = one.source_balance
        row["destination_sequence"] = one.destination_sequence
        row["destination_balance_after"] = one.destination_balance
        row["completed_at"] = self._at
        row["failure_code"] = row["reversed_by"] = None
        return row


class RecentPostings:
    """The last batches that were committed here, by their rows in the outbox."""

    def __init__(self) -> None:
        self._batches: dict[UUID, RecentBatch] = {}
        self._size = 0

    def keep(self, outbox_id: UUID, batch: RecentBatch) -> None:
        """Remember a batch until it is told of, or many others came."""
        self._batches[outbox_id] = batch
        self._size += len(batch)
        while self._size > RECENT_MAX:
            self.forget([next(iter(self._batches))])

    def get(self, outbox_id: UUID) -> RecentBatch | None:
        """Return a batch, if it is still known."""
        return self._batches.get(outbox_id)

    def forget(self, outbox_ids: Iterable[UUID]) -> None:
        """Let go of what was told."""
        for outbox_id in outbox_ids:
            batch = self._batches.pop(outbox_id, None)
            if batch is not None:
                self._size -= len(batch)
