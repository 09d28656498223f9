"""What was accepted while the broker confirmed nothing, and is posted in its order all the same.

A 202 may go out before the broker has the announcement: the ingress's link is cut, slow or silent.
Then the transaction is marked in `unannounced_transactions` before the 202, and whatever the same
submitter has accepted after it, through any ingress, finds the mark when it is read to be posted.
Why that is enough: docs/decisions/0029.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.record import RecordedView
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries

EARLIER_MAX: Final = 1_000
"""Unannounced transactions of one submitter that are read for one batch: as many as a batch has."""
PREDECESSORS_MAX: Final = 5_000
"""What goes before those, and was announced: it waits in the queue, behind the batch perhaps. If
there are more, the oldest are posted first and the batch waits."""
CHAIN_MAX: Final = 50_000
"""Predecessors among which the oldest are looked for: some two seconds of the database."""
LOOK_BACK_MAX: Final = 2_000
"""Transactions of a wallet, not older than the oldest that the reconciler knows to be PENDING,
among which the submitter's last PENDING one over HTTP is looked for."""


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
        in_hand: Collection[UUID],
        is_locked: bool,
    ) -> InOrder:
        """Return a batch's PENDING rows in their order, with the unannounced ones in their places.

        `in_hand` are posted before this batch, by the one before it. `is_locked`: lock what is
        read.
        """
        highest = _highest_ids(rows)
        marked = await connection.fetch(
            self._sql["read_unannounced"],
            self._partition,
            list(highest),
            list(highest.values()),
            EARLIER_MAX,
        )
        predecessors = await self._predecessors(connection, marked)
        arranged = arrange(rows, marked, predecessors, in_hand=in_hand)
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
    ) -> Sequence[RecordedView]:
        """Return what is PENDING and may have been accepted over HTTP before any of these."""
        if not marked:
            return []
        return await connection.fetch(
            self._sql["read_predecessors"],
            [row["id"] for row in marked],
            LOOK_BACK_MAX,
            list({external_wallet_id(row["currency"]) for row in marked}),
            self._partitions == 1,
            CHAIN_MAX,
            PREDECESSORS_MAX,
        )


def arrange(
    rows: Sequence[RecordedView],
    marked: Sequence[RecordedView],
    predecessors: Sequence[RecordedView],
    *,
    in_hand: Collection[UUID] = (),
    earlier_max: int = EARLIER_MAX,
    predecessors_max: int = PREDECESSORS_MAX,
) -> InOrder:
    """Return a batch's rows, given in the order of the queue, with marked ones in their places.

    Before each of them goes all that is marked of its submitter with a lower id, and before a
    marked one all that may have been accepted before it (`predecessors`), although the queue may
    hold that further back. What is `in_hand` goes before all of them, with the batch before this
    one. `earlier_max`: how many of a submitter's marked ones were read at the most, and
    `predecessors_max`: how many predecessors, the oldest of all.
    """
    waiting: dict[str, dict[UUID, RecordedView]] = defaultdict(dict)
    for row in sorted([*marked, *predecessors], key=lambda one: one["id"]):
        if row["id"] not in in_hand:
            waiting[row["submitter"]][row["id"]] = row
    # Where as many were read as are read at once, there may be more behind the last one.
    counts = Counter(row["submitter"] for row in marked)
    last_read = {
        row["submitter"]: row["id"] for row in marked if counts[row["submitter"]] >= earlier_max
    }
    if len(predecessors) >= predecessors_max:
        last_predecessor = max(row["id"] for row in predecessors)
        for submitter in counts:
            last_read[submitter] = min(last_read.get(submitter, last_predecessor), last_predecessor)
    delivered = {row["id"] for row in rows}
    arranged: dict[UUID, RecordedView] = {}
    held: set[str] = set()
    for row in rows:
        submitter = row["submitter"]
        if submitter in held or row["id"] in arranged:
            continue
        left = waiting[submitter]
        last = last_read.get(submitter, row["id"])
        while left and (first := next(iter(left))) < row["id"] and first <= last:
            arranged[first] = left.pop(first)
        if row["id"] > last:
            held.add(submitter)
            continue
        arranged[row["id"]] = row
        left.pop(row["id"], None)
    earlier = [one for one in arranged if one not in delivered]
    return InOrder(list(arranged.values()), earlier, is_partial=bool(held))


def _highest_ids(rows: Sequence[RecordedView]) -> dict[str, UUID]:
    """Return the highest id of each submitter."""
    highest: dict[str, UUID] = {}
    for row in rows:
        submitter, transaction_id = row["submitter"], row["id"]
        highest[submitter] = max(highest.get(submitter, transaction_id), transaction_id)
    return highest
