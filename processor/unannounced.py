"""What was accepted while the broker confirmed nothing, and is posted in its order all the same.

A 202 may go out before the broker has the announcement: the ingress's link is cut, slow or silent.
Then the transaction is marked in `unannounced_transactions` before the 202, and whatever the same
submitter has accepted after it, through any ingress, finds the mark when it is read to be posted.
Why that is enough: what was accepted earlier still is either marked too, or its announcement was
confirmed, so it stands in the queue before what was recorded later (docs/decisions/0029).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from contracts.recording import RecordedView
from runtime.database import Connection
from runtime.queries import load_queries

EARLIER_MAX: Final = 1_000
"""Unannounced transactions of one submitter that are read for one batch: as many as a batch has."""


class InOrder(NamedTuple):
    """A batch's rows in the order in which they were accepted, with what goes before them."""

    rows: Sequence[RecordedView]
    earlier: Sequence[UUID]
    """Those of the rows that nobody has delivered."""
    is_partial: bool
    """Whether some of the batch's own rows have to wait for more of what goes before them."""


class UnannouncedReader:
    """Reads what has to go before a batch of one partition."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._sql = load_queries("processor")

    async def put_in_order(
        self, connection: Connection, rows: Sequence[RecordedView], *, is_locked: bool
    ) -> InOrder:
        """Return PENDING rows and the unannounced ones that go before any of them, by their ids.

        Ids are made by the database's clock when a transaction is recorded, so of two that were
        accepted one after the other the second has the higher one. `is_locked`: lock what is read.
        """
        highest = _highest_ids(rows)
        found = await connection.fetch(
            self._sql["read_unannounced"],
            self._partition,
            list(highest),
            list(highest.values()),
            EARLIER_MAX,
        )
        bounds = _bounds(found)
        known = {row["id"] for row in rows}
        earlier: Sequence[RecordedView] = [row for row in found if row["id"] not in known]
        if is_locked and earlier:
            ids = [row["id"] for row in earlier]
            earlier = await connection.fetch(self._sql["lock_pending"], ids, self._partition)
        return _in_order(rows, earlier, bounds)

    async def forget(self, connection: Connection, transaction_ids: Sequence[UUID]) -> None:
        """Take the marks of what is posted."""
        await connection.execute(self._sql["forget_unannounced"], self._partition, transaction_ids)


def _in_order(
    rows: Sequence[RecordedView], earlier: Sequence[RecordedView], bounds: dict[str, UUID]
) -> InOrder:
    """Merge by id; of a submitter in `bounds` nothing beyond that id, since more may be marked."""
    within = [
        row for row in rows if (bound := bounds.get(row["submitter"])) is None or row["id"] <= bound
    ]
    merged = sorted([*within, *earlier], key=lambda row: row["id"])
    ids = [row["id"] for row in earlier]
    return InOrder(merged, ids, is_partial=len(within) < len(rows))


def _highest_ids(rows: Sequence[RecordedView]) -> dict[str, UUID]:
    """Return the highest id of each submitter."""
    highest: dict[str, UUID] = {}
    for row in rows:
        submitter, transaction_id = row["submitter"], row["id"]
        highest[submitter] = max(highest.get(submitter, transaction_id), transaction_id)
    return highest


def _bounds(found: Sequence[RecordedView]) -> dict[str, UUID]:
    """Return the last id that was read, of submitters of whom more may be marked."""
    counts: dict[str, int] = {}
    last: dict[str, UUID] = {}
    for row in found:
        submitter, transaction_id = row["submitter"], row["id"]
        counts[submitter] = counts.get(submitter, 0) + 1
        last[submitter] = max(last.get(submitter, transaction_id), transaction_id)
    return {one: last[one] for one, count in counts.items() if count == EARLIER_MAX}
