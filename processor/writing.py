"""Writing a batch of plain moves by one statement, and sending the next one meanwhile.

A batch that was decided on the wallets that another one leaves is sent while that one is still
being written. The server lets it wait (`posting_turn`, migrations/0075), so nothing stands between
two writes but a commit. Where the one before is not written after all, neither is the one behind.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson

from ledger.post import detail_of
from ledger.state import Posted
from processor.deciding import Decided, Writing
from processor.drafting import NO_DRAFTS, Drafts
from processor.intake import TOGETHER_MAX
from runtime.postgres.pool import Connection, Lane, Pool
from runtime.postgres.queries import load_queries
from runtime.service.fault_points import FaultPoint, FaultPoints

ACQUIRE_TIMEOUT_S: Final = 10.0
"""For a connection, and to give it back: the library waits for ever by default."""
FEW_MAX: Final = TOGETHER_MAX
"""Transactions: behind so few none is sent ahead, and a row less is written."""


class Turn:
    """A batch that is being written, as the one behind it has to know it."""

    __slots__ = ("batch", "lane", "over", "writing")

    def __init__(self, writing: Writing, batch: UUID | None, lane: int) -> None:
        """`batch` names it in the database; None for one that none can be sent behind."""
        self.writing = writing
        self.batch = batch
        self.lane = lane
        self.over = asyncio.Event()
        """Set when it is written and all is noted of it, or when it failed."""


def may_follow(decided: Decided, turn: Turn) -> bool:
    """Whether a batch may be sent behind another one that is being written.

    All that it rests on has to be committed, or left by that one.
    """
    if turn.batch is None or turn.over.is_set() or decided.is_nothing:
        return False
    writing = turn.writing
    return all(
        one.row_version is not None or one is writing
        for one in (*decided.written_over, *decided.seen.values())
    )


class MoveWriter:
    """Writes the batches of one partition, in the order of their turns."""

    def __init__(
        self, pool: Pool, *, fault_points: FaultPoints | None = None, few_max: int = FEW_MAX
    ) -> None:
        self._pool = pool
        self._fault_points = fault_points
        self._few_max = few_max
        self._sql = load_queries("processor")

    @cached_property
    def _lanes(self) -> tuple[Lane, Lane]:
        """Of the batch that is written, and of the one that waits behind it.

        Made when they are first used: where everything is locked they would keep connections from
        others.
        """
        pool = self._pool
        timeout_s = ACQUIRE_TIMEOUT_S
        return Lane(pool, timeout_s=timeout_s), Lane(pool, timeout_s=timeout_s)

    def turn_of(self, decided: Decided, *, behind: Turn | None = None) -> Turn:
        """Return a new turn of a batch, which the next one may be sent behind."""
        posting = decided.posting
        is_few = len(posting.posted) + len(posting.refused) <= self._few_max
        batch = None if is_few and behind is None else uuid4()
        return Turn(decided.writing, batch, 0 if behind is None else 1 - behind.lane)

    async def write(
        self,
        decided: Decided,
        turn: Turn,
        *,
        latest_change: datetime,
        behind: Turn | None = None,
        drafts: Drafts | None = None,
    ) -> asyncpg.Record | None:
        """Commit a batch in its turn, and record it if it is `drafts`; None where that is nothing.

        Drafts are never few (`BatchReader.read`), so they always have a turn.

        Raises PostingMismatchError where rows are not those that it was decided on, and what the
        database raises.
        """
        async with self._lanes[turn.lane].use() as connection:
            if self._fault_points is not None:
                await self._fault_points.reach(FaultPoint.PROCESSOR_BEFORE_COMMIT)
            if turn.batch is None:
                return await self.write_on(connection, decided, latest_change=latest_change)
            return await connection.fetchrow(
                self._sql["write_batch_in_turn"],
                latest_change,
                *_arguments(decided),
                turn.batch,
                None if behind is None else behind.batch,
                *(NO_DRAFTS if drafts is None else drafts.arguments(decided.posting)),
            )

    async def write_on(
        self, connection: Connection, decided: Decided, *, latest_change: datetime
    ) -> asyncpg.Record | None:
        """Write a batch on a connection, whose locks make turns needless; None for nothing."""
        if decided.is_nothing:
            return None
        return await connection.fetchrow(
            self._sql["write_moves"], latest_change, *_arguments(decided)
        )


def _arguments(decided: Decided) -> tuple[Sequence[Any], ...]:
    """Return the arrays of the queries, which stand behind their first argument.

    A row of a batch that is not committed has no version: no row has that, so nothing is written
    over it, but in a turn behind that batch.
    """
    posting = decided.posting
    changed, posted, refused = posting.wallets, posting.posted, posting.refused
    return (
        [wallet.id for wallet in changed],
        [wallet.balance for wallet in changed],
        [wallet.version for wallet in changed],
        [writing.row_version for writing in decided.written_over],
        *(zip(*posted, strict=True) if posted else [()] * len(Posted._fields)),
        [refusal.transaction_id for refusal in refused],
        [refusal.code.value for refusal in refused],
        list(map(detail_of, refused)),
        orjson.dumps({"limits": decided.limits}).decode() if decided.limits else None,
        list(decided.seen),
        [writing.row_version for writing in decided.seen.values()],
        decided.rules_version,
    )
