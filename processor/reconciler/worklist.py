"""The worklist: stale transactions are published again until they are PENDING no longer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from processor.reconciler import metrics
from processor.reconciler.expiry import Expiry
from processor.reconciler.queue_depth import QueueDepth
from runtime.database import Pool
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.publisher import NotConfirmedError, Publisher
from runtime.queries import load_queries
from runtime.republishing import RecordedTransaction, recorded_messages, recorded_transaction

FIRST_DELAY_S: Final = 10.0
"""When a republished transaction is due again: well after a healthy processor has posted it."""
DELAY_MAX_S: Final = 600.0
"""The longest pause between two tries, so that a mended fault is noticed within ten minutes."""
QUEUE_DEPTH_MAX: Final = 1_000
"""Messages in a queue above which nothing is added: most likely what is stale waits in it."""
CONFIRM_TIMEOUT_S: Final = 5.0
FORGOTTEN_MAX: Final = 10_000
"""Marks of unannounced transactions that one pass takes: some tens of milliseconds."""
CLAIM_LOCK_KEY: Final = 0x61636B63
"""Any number, the same for every process of Ackledger: 'ackc' in ASCII."""
COUNTED_MAX: Final = 100_000
"""The worklist is counted no further: counting is not worth more time than that."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorklistCounts:
    """What became of due transactions, and how many are still on the list."""

    ended: int
    expired: int
    republished: int
    waiting: int
    is_paused: bool


@dataclass(frozen=True, slots=True)
class _Due:
    """Claimed transactions, by what is to be done with them."""

    ended: int
    to_publish: list[RecordedTransaction]
    last_calls: list[UUID]
    """Those of them that are past their age."""
    to_expire: list[UUID]


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
        expiry: Expiry,
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._depth = depth
        self._partitions = partitions
        self._in_flight_max = in_flight_max
        self._expiry = expiry
        self._fault_points = fault_points
        self._sql = load_queries("processor.reconciler")

    async def run_once(self) -> WorklistCounts:
        """Publish what is due, confirmed; raises what keeps the broker from confirming."""
        ended = await self._pool.fetchval(self._sql["forget_ended"])
        await self._pool.execute(self._sql["forget_announced"], FORGOTTEN_MAX)
        queues = await self._depth.look()
        is_paused = queues.deepest > QUEUE_DEPTH_MAX
        metrics.PAUSED.set(is_paused)
        expired = republished = 0
        if not is_paused:
            due = await self._claim(are_served=queues.are_served)
            ended += due.ended
            expired = await self._expiry.expire(due.to_expire)
            await self._fault_points.reach(FaultPoint.RECONCILER_CLAIMED)
            await self._republish(due.to_publish)
            await self._expiry.note_last_calls(due.last_calls)
            await self._fault_points.reach(FaultPoint.RECONCILER_REPUBLISHED)
            republished = len(due.to_publish)
        waiting = await self._pool.fetchval(self._sql["count_worklist"], COUNTED_MAX)
        metrics.WORKLIST.set(waiting)
        return WorklistCounts(
            ended=ended,
            expired=expired,
            republished=republished,
            waiting=waiting,
            is_paused=is_paused,
        )

    async def _claim(self, *, are_served: bool) -> _Due:
        rows = await self._claim_rows(are_served=are_served)
        pending = [row for row in rows if row["is_pending"]]
        due = _Due(ended=len(rows) - len(pending), to_publish=[], last_calls=[], to_expire=[])
        for row in pending:
            if self._expiry.is_due(is_too_old=row["is_too_old"], last_calls=row["last_calls"]):
                due.to_expire.append(row["id"])
                continue
            due.to_publish.append(recorded_transaction(row))
            if row["is_too_old"]:
                due.last_calls.append(row["id"])
        return due

    async def _claim_rows(self, *, are_served: bool) -> list[asyncpg.Record]:
        """Claim as many as there is room for; what has ended takes no room, but counts here."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._sql["lock_claims"], CLAIM_LOCK_KEY)
            in_flight = await connection.fetchval(self._sql["count_in_flight"])
            room = self._in_flight_max - in_flight
            if room <= 0:
                return []
            return await connection.fetch(
                self._sql["claim_due"],
                room,
                FIRST_DELAY_S,
                DELAY_MAX_S,
                self._expiry.age_s,
                self._expiry.pause_s,
                are_served,
            )

    async def _republish(self, pending: Sequence[RecordedTransaction]) -> None:
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
