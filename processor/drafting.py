"""Drafts: upstream's plain moves that are recorded as they are posted, by the same statement.

A draft has an id and a moment of the database's, and no row yet: it is decided as if it had one,
and becomes a COMPLETED row at once (migrations/0076). Where that cannot be, since a key is used
already or was meanwhile, it is recorded first, as anything else is. Until drafts are written, a
batch that has any of their keys is not read: of one key the first request counts.
"""

import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from contracts.record import (
    RecordedRow,
    RecordedView,
    Submission,
    have_terms,
    recorded_views,
    recording_arguments,
)
from contracts.requests.transaction import Channel
from ledger.state import Posting
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries

NO_DRAFTS: Final = (None,) * 13
"""What `Drafts.arguments` are for a batch that is recorded already."""
OLD_AFTER_S: Final = 0.4
"""The statement that records them refuses those of half a second before it began: nobody who walks
over the ids may have passed theirs."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """The drafts of a batch, in the order of its items."""

    ids: Sequence[UUID]
    drafted_at: datetime
    """When they were accepted, by the database's clock."""
    columns: Sequence[Sequence[Any]]
    """The arrays of `recording_arguments`."""
    keys: AbstractSet[tuple[str, str]]
    """Their submitters and idempotency keys."""
    asked_at_s: float
    """When the database was asked for them, by our clock (`time.monotonic`)."""

    @property
    def are_old(self) -> bool:
        """Whether the statement that records them would refuse them, or soon."""
        return time.monotonic() - self.asked_at_s > OLD_AFTER_S

    def have_key_of(self, items: Iterable[object]) -> bool:
        """Whether any submission among items has a key of these."""
        keys = self.keys
        return any(
            (one.submitter, one.command.idempotency_key) in keys
            for one in items
            if isinstance(one, Submission)
        )

    def views(self) -> dict[UUID, RecordedView]:
        """Return them as if they had been recorded and read."""
        recorded = [
            RecordedRow(one, is_new=True, is_same=True, is_pending=True, created_at=self.drafted_at)
            for one in self.ids
        ]
        return recorded_views(self.columns, recorded, channel=Channel.AMQP)

    def arguments(self, posting: Posting) -> tuple[Any, ...]:
        """Return what records them as they were decided: first the posted ones, then the others."""
        if not posting.refused:
            return (self.drafted_at, *self.columns)
        place = {one: number for number, one in enumerate(self.ids)}
        order = [place[one.transaction_id] for one in posting.posted]
        order += [place[one.transaction_id] for one in posting.refused]
        return (self.drafted_at, *([column[one] for one in order] for column in self.columns))


async def drafts_of(
    connection: Connection, submissions: Sequence[Submission], *, partition: int
) -> Drafts | None:
    """Return drafts of submissions, or None where they have to be recorded first.

    That is where some have terms, a key was used before or stands there twice, or what was accepted
    earlier waits without an announcement.
    """
    if have_terms(submissions):
        return None
    columns = recording_arguments(submissions)
    submitters, keys = columns[:2]
    pairs = set(zip(submitters, keys, strict=True))
    if len(pairs) < len(keys):
        return None
    asked_at_s = time.monotonic()
    row = await connection.fetchrow(
        load_queries("processor")["draft_moves"], submitters, keys, len(keys), partition
    )
    if row is None or row["is_any_used"] or row["is_any_unannounced"]:
        return None
    return Drafts(row["ids"], row["drafted_at"], columns, pairs, asked_at_s)
