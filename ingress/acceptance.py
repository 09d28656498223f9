"""Acceptance: submissions of the same few milliseconds become one insert and one message."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple
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


class Accepted(NamedTuple):
    """How a submission was recorded. NEW ones are durable, and announced as far as can be.

    `announced` is done when the broker has confirmed it, or need not be waited for any longer:
    waiting for it keeps a client's accepted order. None where there is nothing to wait for.
    """

    standing: Standing
    row: RecordedRow
    announced: asyncio.Future[None] | None = None


Outcome = Accepted | Exception
"""How a submission was recorded, or why it could not be."""


_COUNTERS: Final = {one: SUBMISSIONS.labels(one) for one in Standing}


def count_standing(standing: Standing) -> None:
    """Count a submission by how it stands to its key, as it is answered."""
    _COUNTERS[standing].inc()


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
        self._gatherer: Gatherer[Submission, Outcome] = Gatherer(
            self._accept_group, group_max=group_size, waiting_max=WAITING_MAX, workers=flushers
        )

    async def run(self) -> None:
        """Accept until cancelled."""
        await self._gatherer.run()

    async def accept(self, submissions: Sequence[Submission]) -> Sequence[Outcome]:
        """Return how each submission was recorded, in their order, once it is announced too.

        Raises GatheringFullError when too many wait; then nothing was recorded.
        """
        recording = self.record_soon(submissions)
        try:
            outcomes = await recording
        except Exception as error:  # noqa: BLE001  # each submission has it for its answer
            return [error for _ in submissions]
        waiting = {
            one.announced
            for one in outcomes
            if isinstance(one, Accepted) and one.announced is not None and not one.announced.done()
        }
        if waiting:
            await asyncio.wait(waiting)
        return outcomes

    def record_soon(self, submissions: Sequence[Submission]) -> "asyncio.Future[Sequence[Outcome]]":
        """Return what will hold how each submission was recorded, or what went wrong for all.

        Raises GatheringFullError when too many wait; then nothing was recorded.
        """
        return self._gatherer.submit(submissions)

    async def _accept_group(self, group: list[Submission]) -> Sequence[Outcome]:
        """Record a group and put what is new in line; the next group need not wait for it."""
        await self._fault_points.reach(FaultPoint.INGRESS_BEFORE_COMMIT)
        rows = await self._record(group)
        await self._fault_points.reach(FaultPoint.INGRESS_COMMITTED)
        GROUP_SUBMISSIONS.observe(len(group))
        announced = self._announce(group, rows)
        return [
            row
            if isinstance(row, Exception)
            else Accepted(standing_of(row), row, announced.get(row.id))
            for row in rows
        ]

    def _announce(
        self, group: Sequence[Submission], rows: Sequence[RecordedRow | Exception]
    ) -> dict[UUID, asyncio.Future[None]]:
        """Put them in their partitions' lines, and return what to wait for with each of them."""
        # Each once, in order: a key that stands twice in a group has one row.
        by_partition: dict[int, dict[UUID, None]] = defaultdict(dict)
        for submission, row in zip(group, rows, strict=True):
            if isinstance(row, RecordedRow) and is_to_announce(row):
                by_partition[self._partition(submission)][row.id] = None
        announced: dict[UUID, asyncio.Future[None]] = {}
        for partition, ids in by_partition.items():
            confirmed = self._announcer.announce(partition, list(ids))
            if not confirmed.done() and self._announcer.is_up:
                announced.update(dict.fromkeys(ids, self._bounded(confirmed)))
        return announced

    def _bounded(self, confirmed: Confirmed) -> asyncio.Future[None]:
        """Done with the confirm, after the bound at the latest."""
        loop = asyncio.get_running_loop()
        waited: asyncio.Future[None] = loop.create_future()
        bound = loop.call_later(self._confirm_timeout_s, _finish, waited)

        def finish(_: Confirmed) -> None:
            bound.cancel()
            _finish(waited)

        confirmed.add_done_callback(finish)
        return waited

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
        if self._partitions == 1:
            return 0
        command = submission.command
        wallet_id = command.source_wallet_id or command.destination_wallet_id
        if wallet_id is None:
            raise AssertionError("a command names at least one wallet")
        return partition_of(wallet_id, self._partitions)


def _finish(waited: asyncio.Future[None]) -> None:
    if not waited.done():
        waited.set_result(None)
