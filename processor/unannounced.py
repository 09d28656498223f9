"""What was accepted while the broker confirmed nothing, and is posted in its order all the same.

A 202 may go out before the broker has the announcement: the ingress's link is cut, slow or silent.
Then the transaction is marked in `unannounced_transactions` before the 202, and whatever the same
submitter has accepted after it, through any ingress, finds the mark when it is read to be posted.
Why that is enough: docs/decisions/0029.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.recording import RecordedView
from runtime.database import Connection
from runtime.queries import load_queries

EARLIER_MAX: Final = 1_000
"""Unannounced transactions of one submitter that are read for one batch: as many as a batch has."""
LOOK_BACK_MAX: Final = 1_000
"""Transactions of a wallet among which the submitter's last one over HTTP is looked for."""


class InOrder(NamedTuple):
    """A batch's rows in the order in which they were accepted, with what goes before them."""

    rows: Sequence[RecordedView]
    earlier: Sequence[UUID]
    """Those of the rows that nobody has delivered."""
    is_partial: bool
    """Whether some of the batch's own rows have to wait for more of what goes before them."""


class UnannouncedReader:
    """Reads what has to go before a batch of one partition."""

    def __init__(self, partition: int, *, partitions: int) -> None:
        self._partition = partition
        self._partitions = partitions
        self._sql = load_queries("processor")

    async def put_in_order(
        self,
        connection: Connection,
        rows: Sequence[RecordedView],
        *,
        submitted: Collection[UUID],
        in_hand: Collection[UUID],
        is_locked: bool,
    ) -> InOrder:
        """Return a batch's PENDING rows in their order, with the unannounced ones in their places.

        `submitted` are those that an upstream message asks for, and that were recorded when it was
        taken from the queue. `in_hand` are posted before this batch, by the one before it.
        `is_locked`: lock what is read.
        """
        highest = _highest_ids(rows)
        marked = await connection.fetch(
            self._sql["read_unannounced"],
            self._partition,
            list(highest),
            list(highest.values()),
            EARLIER_MAX,
        )
        predecessors = await self._predecessors(connection, marked) if submitted else {}
        arranged = arrange(
            rows, marked, submitted=submitted, predecessors=predecessors, in_hand=in_hand
        )
        if is_locked and arranged.earlier:
            ids = list(arranged.earlier)
            locked = await connection.fetch(self._sql["lock_pending"], ids, self._partition)
            gone = set(ids) - {row["id"] for row in locked}
            return arranged._replace(rows=[one for one in arranged.rows if one["id"] not in gone])
        return arranged

    async def forget(self, connection: Connection, transaction_ids: Sequence[UUID]) -> None:
        """Take the marks of what is posted."""
        await connection.execute(self._sql["forget_unannounced"], self._partition, transaction_ids)

    async def _predecessors(
        self, connection: Connection, marked: Sequence[RecordedView]
    ) -> Mapping[UUID, set[UUID]]:
        """Return what is PENDING in this partition and was accepted over HTTP just before each.

        Where that is posted, so is all that came over HTTP before it. An upstream message says
        nothing of the kind: it is recorded when it is taken from the queue.
        """
        ids = [row["id"] for row in marked]
        externals = list({external_wallet_id(row["currency"]) for row in marked})
        found = await connection.fetch(
            self._sql["read_predecessors"], ids, LOOK_BACK_MAX, externals, self._partitions == 1
        )
        predecessors: dict[UUID, set[UUID]] = defaultdict(set)
        for before, one in found:
            predecessors[before].add(one)
        return predecessors


def arrange(
    rows: Sequence[RecordedView],
    marked: Sequence[RecordedView],
    *,
    submitted: Collection[UUID],
    predecessors: Mapping[UUID, Collection[UUID]],
    in_hand: Collection[UUID] = (),
    earlier_max: int = EARLIER_MAX,
) -> InOrder:
    """Return a batch's rows, given in the order of the queue, with marked ones in their places.

    Before a row that was recorded before it was announced go all of its submitter's marked ones
    with lower ids: what has to go before those stands before it in the queue. Before one that was
    recorded only now (`submitted`) goes what nothing outstanding has to go before
    (`predecessors`): the rest may have been accepted after the message was published. What is
    `in_hand` goes before all of them, with the batch before this one.
    `earlier_max`: how many of a submitter's marked ones were read at the most.
    """
    waiting: dict[str, list[RecordedView]] = defaultdict(list)
    for row in sorted(marked, key=lambda one: one["id"]):
        waiting[row["submitter"]].append(row)
    # Where as many were read as are read at once, there may be more behind the last one.
    last_read = {
        submitter: found[-1]["id"]
        for submitter, found in waiting.items()
        if len(found) >= earlier_max
    }
    delivered = {row["id"] for row in rows}
    arranged: dict[UUID, RecordedView] = {}
    held: set[str] = set()
    for row in rows:
        submitter = row["submitter"]
        if submitter in held or row["id"] in arranged:
            continue
        is_anything_first = False
        for one in waiting.get(submitter, ()):
            if one["id"] >= row["id"]:
                break
            outstanding = predecessors.get(one["id"], ()) if row["id"] in submitted else ()
            if one["id"] in arranged or one["id"] in in_hand:
                continue
            if all(before in arranged or before in in_hand for before in outstanding):
                arranged[one["id"]] = one
                is_anything_first = True
        if is_anything_first:
            waiting[submitter] = [one for one in waiting[submitter] if one["id"] not in arranged]
        last = last_read.get(submitter)
        is_all_read = last is None or row["id"] < last
        if not is_all_read and (row["id"] not in submitted or is_anything_first):
            held.add(submitter)
            continue
        arranged[row["id"]] = row
    earlier = [one for one in arranged if one not in delivered]
    return InOrder(list(arranged.values()), earlier, is_partial=bool(held))


def _highest_ids(rows: Sequence[RecordedView]) -> dict[str, UUID]:
    """Return the highest id of each submitter."""
    highest: dict[str, UUID] = {}
    for row in rows:
        submitter, transaction_id = row["submitter"], row["id"]
        highest[submitter] = max(highest.get(submitter, transaction_id), transaction_id)
    return highest
