"""What this process has just posted, so that the relay need not read it again to tell of it.

The outbox row stays the promise: what is not here any more, or was posted by another process, is
read from the database. A commit whose one row is known here whole need not even be claimed: its row
was born claimed by this process (migrations/0072).
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice, takewhile
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

import structlog

from contracts.record import RecordedView
from contracts.representations.event import PostedRow
from contracts.representations.transaction import Row
from ledger.state import Posted
from processor.events.owed import Owed
from runtime.service.periodic import is_set_within

RECENT_MAX: Final = 8_192
"""Transactions; beyond them posting waits for the relay."""
PATIENCE_S: Final = 1.0
"""A relay that has told of nothing for so long is not waited for."""
CLAIMANT_SETTING: Final = "ackledger.claimant"
"""Of a session: for whom its rows of the outbox are born claimed (migrations/0072)."""
BORN_CLAIMED_S: Final = 5.0
"""How long a row of the outbox is claimed from its birth, by whose session asks for it."""
TAKEN_WITHIN_S: Final = BORN_CLAIMED_S / 2
"""Older rows are claimed anew before they are told of: their first claim may run out meanwhile."""
TOLD_EARLY_MAX: Final = 256
"""Rows that the relay claimed and told of before whoever posted them came to put them here."""

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

    @cached_property
    def all_kinds(self) -> set[tuple[str, str]]:
        """Types and currencies of all, and perhaps of some that were refused."""
        return {(row["type"], row["currency"]) for row in self._recorded.values()}

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


class _Kept(NamedTuple):
    """A batch in memory; if its commit owes one row, that row, and until when it may be taken."""

    batch: Buffered
    owed: Owed | None
    until: float


class EventBuffer:
    """The last batches that were committed here, by their rows in the outbox."""

    def __init__(self, *, claimant: UUID | None = None) -> None:
        """`claimant`: by whom the rows of this process's sessions are born claimed, if they are."""
        self.claimant = claimant
        self.has_others = True
        """Whether this process may owe rows that are not here. Until they are claimed, those that
        are here wait: events are told in the order of their commits."""
        self._batches: dict[UUID, _Kept] = {}
        self._told_early: dict[UUID, None] = {}
        self.size = 0
        """Transactions that are kept: from RECENT_MAX on there is no `room`."""
        self._told = asyncio.Event()

    def keep(self, outbox_id: UUID, batch: Buffered, *, owed: Owed | None = None) -> None:
        """Remember a batch until it is told of; `owed` is its row, if the commit made no other."""
        if outbox_id in self._told_early:
            del self._told_early[outbox_id]
            return
        if owed is None:
            self.has_others = True
        self._batches[outbox_id] = _Kept(batch, owed, time.monotonic() + TAKEN_WITHIN_S)
        self.size += len(batch)

    def get(self, outbox_id: UUID) -> Buffered | None:
        """Return a batch, if it is still known."""
        kept = self._batches.get(outbox_id)
        return None if kept is None else kept.batch

    def oldest(self, limit: int) -> list[Owed]:
        """Return the rows to be told of next, if they need not be claimed; they stay here."""
        if self.claimant is None or self.has_others:
            return []
        now = time.monotonic()
        known = takewhile(lambda one: now < one.until, self._batches.values())
        rows = [one.owed for one in islice(known, limit)]
        return [owed for owed in rows if owed is not None]

    def forget(self, outbox_id: UUID) -> None:
        """Let go of what is told, and of what was posted before it: others tell of that."""
        if outbox_id not in self._batches:
            self._told_early[outbox_id] = None
            if len(self._told_early) > TOLD_EARLY_MAX:
                del self._told_early[next(iter(self._told_early))]
            return
        while True:
            oldest = next(iter(self._batches))
            self.size -= len(self._batches.pop(oldest).batch)
            if oldest == outbox_id:
                break
        self._told.set()

    async def room(self) -> None:
        """Wait for the relay while there is much to tell: posting never runs away from its events.

        Read again from the tables, an event costs twice as much. Where the relay stands still, what
        is kept is forgotten, and posting goes on.
        """
        while self.size >= RECENT_MAX:
            self._told.clear()
            if not await is_set_within(self._told, PATIENCE_S):
                log.info("events_left_behind", count=self.size)
                self._batches.clear()
                self.size = 0
                self.has_others = True


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
