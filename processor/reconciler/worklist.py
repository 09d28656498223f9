"""The worklist: stale transactions are published again until they are PENDING no longer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from contracts.transactions import TransactionType
from processor.reconciler import metrics
from processor.reconciler.queue_depth import QueueDepth
from processor.reconciler.republishing import PendingTransaction, recorded_messages
from runtime.database import Pool, rows_changed
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.publisher import NotConfirmedError, Publisher
from runtime.queries import load_queries

FIRST_DELAY_S: Final = 10.0
"""When a republished transaction is due again: well after a healthy processor has posted it."""
DELAY_MAX_S: Final = 600.0
"""The longest pause between two tries, so that a mended fault is noticed within ten minutes."""
QUEUE_DEPTH_MAX: Final = 1_000
"""Messages in a queue above which nothing is added: most likely what is stale waits in it."""
CONFIRM_TIMEOUT_S: Final = 5.0
COUNTED_MAX: Final = 100_000
"""The worklist is counted no further: counting is not worth more time than that."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorklistCounts:
    """What became of due transactions, and how many are still on the list."""

    ended: int
    republished: int
    waiting: int
    is_paused: bool


class Worklist:
    """Publishes due transactions again, never more than a bound of them in flight."""

    def __init__(
        self,
        *,
        pool: Pool,
        publisher: Publisher,
        depth: QueueDepth,
        partitions: int,
        in_flight_max: int,
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._depth = depth
        self._partitions = partitions
        self._in_flight_max = in_flight_max
        self._fault_points = fault_points
        self._sql = load_queries("processor.reconciler")

    async def run_once(self) -> WorklistCounts:
        """Publish what is due, confirmed; raises what keeps the broker from confirming."""
        ended, in_flight = await self._settle()
        is_paused = await self._depth.deepest() > QUEUE_DEPTH_MAX
        metrics.PAUSED.set(is_paused)
        republished = 0
        room = self._in_flight_max - in_flight
        if room > 0 and not is_paused:
            due_ended, pending = await self._claim(room)
            ended += due_ended
            await self._fault_points.reach(FaultPoint.RECONCILER_CLAIMED)
            await self._republish(pending)
            await self._fault_points.reach(FaultPoint.RECONCILER_REPUBLISHED)
            republished = len(pending)
        waiting = await self._pool.fetchval(self._sql["count_worklist"], COUNTED_MAX)
        metrics.WORKLIST.set(waiting)
        return WorklistCounts(
            ended=ended, republished=republished, waiting=waiting, is_paused=is_paused
        )

    async def _settle(self) -> tuple[int, int]:
        """Forget what has ended; return how many did, and how many are still in flight."""
        async with self._pool.acquire() as connection:
            ended = await connection.execute(self._sql["forget_ended"])
            in_flight = await connection.fetchval(self._sql["count_in_flight"])
        return rows_changed(ended), in_flight

    async def _claim(self, count_max: int) -> tuple[int, list[PendingTransaction]]:
        rows = await self._pool.fetch(self._sql["claim_due"], count_max, FIRST_DELAY_S, DELAY_MAX_S)
        pending = [
            PendingTransaction(
                id=row["id"],
                type=TransactionType(row["type"]),
                source_wallet_id=row["source_wallet_id"],
                destination_wallet_id=row["destination_wallet_id"],
            )
            for row in rows
            if row["is_pending"]
        ]
        return len(rows) - len(pending), pending

    async def _republish(self, pending: Sequence[PendingTransaction]) -> None:
        """Publish queue by queue in id order; what is not confirmed is due again at once."""
        unconfirmed = {transaction.id for transaction in pending}
        try:
            for message in recorded_messages(pending, self._partitions):
                await self._publisher.publish(message.outgoing, timeout_s=CONFIRM_TIMEOUT_S)
                unconfirmed.difference_update(message.transaction_ids)
        except NotConfirmedError:
            await self._give_back(unconfirmed)
            raise
        if pending:
            metrics.REPUBLISHED.inc(len(pending))
            log.info("transactions_republished", transactions=len(pending))

    async def _give_back(self, transaction_ids: set[UUID]) -> None:
        await self._pool.execute(self._sql["give_back"], list(transaction_ids))
