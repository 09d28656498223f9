"""Drafts: upstream's plain moves that are recorded as they are posted, by the same statement.

A draft has an id and a moment of the database's, and no row yet: it is decided as if it had one,
and becomes a COMPLETED row at once (migrations/0076). Where that cannot be, since a key is used
already or was meanwhile, it is recorded first, as anything else is.
"""

from collections.abc import Sequence
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

ARGUMENTS: Final = 13
"""Of `write_batch_in_turn`, about drafts."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """The drafts of a batch, in the order of its items."""

    ids: Sequence[UUID]
    drafted_at: datetime
    """When they were accepted, by the database's clock."""
    columns: Sequence[Sequence[Any]]
    """The arrays of `recording_arguments`."""

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
    if len(set(zip(submitters, keys, strict=True))) < len(keys):
        return None
    row = await connection.fetchrow(
        load_queries("processor")["draft_moves"], submitters, keys, len(keys), partition
    )
    if row is None or row["is_any_used"] or row["is_any_unannounced"]:
        return None
    return Drafts(row["ids"], row["drafted_at"], columns)
