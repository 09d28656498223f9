"""Acceptance: submissions of the same few milliseconds become one insert and one message."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from contracts.recording import RecordedRow, Submission, recorded_rows, recording_arguments
from contracts.topology import partition_of
from ingress.announcing import Announcer, Confirmed
from ingress.idempotency import Standing, is_to_announce, standing_of
from ingress.metrics import GROUP_SUBMISSIONS, SUBMISSIONS
from runtime.database import Pool
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.gathering import Gatherer
from runtime.queries import load_queries

WAITING_MAX: Final = 20_000
"""Submissions that wait for their insert; more are refused with 503 backlog_full."""

# What one row may have wrong that no check foresaw; the group is then recorded one by one.
_ROW_FAULTS: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


@dataclass(frozen=True, slots=True)
class Accepted:
    """How a submission was recorded. NEW ones are durable, and announced as far as can be."""

    standing: Standing
    row: RecordedRow
    announced: Confirmed | None = None


class Acceptance:
    """Records submissions, then announces what is new; answers when both are done."""

    def __init__(
        self,
        *,
        pool: Pool,
        announcer: Announcer,
        partitions: int,
        group_size: int,
        flushers: int,
        confirm_timeout_s: float,
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        """`confirm_timeout_s` bounds the wait for the broker: after it, accepted all the same."""
        self._pool = pool
        self._announcer = announcer
        self._partitions = partitions
        self._confirm_timeout_s = confirm_timeout_s
        self._fault_points = fault_points
        self._sql = load_queries("ingress")
        self._gatherer: Gatherer[Submission, Accepted | Exception] = Gatherer(
            self._accept_group, group_max=group_size, waiting_max=WAITING_MAX, workers=flushers
        )

    async def run(self) -> None:
        """Accept until cancelled."""
        await self._gatherer.run()

    def close(self) -> None:
        """Take nothing more; what waits is still accepted."""
        self._gatherer.close()

    async def accept(self, submissions: Sequence[Submission]) -> list[Accepted | Exception]:
        """Return how each submission was recorded, in their order, or why it could not be.

        Raises GatheringFullError when too many wait; then nothing was recorded.
        """
        futures = self._gatherer.submit(submissions)
        accepted = list(await asyncio.gather(*futures, return_exceptions=True))
        results = [_settled(one) for one in accepted]
        await self._announced(results)
        return results

    async def _announced(self, results: Sequence[Accepted | Exception]) -> None:
        """Wait for the broker to confirm what is new: this keeps a client's accepted order."""
        waiting = {
            one.announced
            for one in results
            if isinstance(one, Accepted) and one.announced is not None and not one.announced.done()
        }
        if waiting and self._announcer.is_up:
            await asyncio.wait(waiting, timeout=self._confirm_timeout_s)

    async def _accept_group(self, group: list[Submission]) -> Sequence[Accepted | Exception]:
        """Record a group and put what is new in line; the next group need not wait for it."""
        await self._fault_points.reach(FaultPoint.INGRESS_BEFORE_COMMIT)
        rows = await self._record(group)
        await self._fault_points.reach(FaultPoint.INGRESS_COMMITTED)
        GROUP_SUBMISSIONS.observe(len(group))
        announced = self._announce(group, rows)
        return [
            row if isinstance(row, Exception) else _accepted(row, announced.get(row.id))
            for row in rows
        ]

    def _announce(
        self, group: Sequence[Submission], rows: Sequence[RecordedRow | Exception]
    ) -> dict[UUID, Confirmed]:
        """Put them in their partitions' lines, and return what confirms each of them."""
        by_partition: dict[int, list[UUID]] = defaultdict(list)
        for submission, row in zip(group, rows, strict=True):
            if isinstance(row, RecordedRow) and is_to_announce(row):
                by_partition[self._partition(submission)].append(row.id)
        announced: dict[UUID, Confirmed] = {}
        for partition, ids in by_partition.items():
            distinct = list(dict.fromkeys(ids))
            announced.update(dict.fromkeys(ids, self._announcer.announce(partition, distinct)))
        return announced

    async def _record(self, group: Sequence[Submission]) -> list[RecordedRow | Exception]:
        try:
            rows = await self._pool.fetch(
                self._sql["record_transactions"], *recording_arguments(group)
            )
        except _ROW_FAULTS as error:
            if len(group) == 1:
                return [error]
            middle = len(group) // 2
            return [*await self._record(group[:middle]), *await self._record(group[middle:])]
        return list(recorded_rows(rows, len(group)))

    def _partition(self, submission: Submission) -> int:
        command = submission.command
        wallet_id = command.source_wallet_id or command.destination_wallet_id
        if wallet_id is None:
            raise AssertionError("a command names at least one wallet")
        return partition_of(wallet_id, self._partitions)


def _accepted(row: RecordedRow, announced: Confirmed | None) -> Accepted:
    standing = standing_of(row)
    SUBMISSIONS.labels(standing).inc()
    return Accepted(standing, row, announced)


def _settled(result: Accepted | Exception | BaseException) -> Accepted | Exception:
    if isinstance(result, (Accepted, Exception)):
        return result
    raise result
