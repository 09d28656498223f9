"""The recorder: submissions of the same few milliseconds become one insert and one message.

The dispatcher takes recorded ids to the broker in accepted order, confirmed: a partition's
announcements go out one message after the other; while one is being confirmed, the next one
gathers. What the broker does not confirm stays at the head of the line, so that a wallet's later
debits never overtake it. What it does not confirm in time is marked in the database before it is
answered: posting looks there, so that nothing that the client sends later overtakes it
(docs/decisions/0029).
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from contracts.messages import RECORDED_TYPE, encode_recorded
from contracts.problems import ContractError, ProblemCode
from contracts.record import (
    RecordedRow,
    Submission,
    have_terms,
    partition_of,
    recorded_rows,
    recording_arguments,
)
from contracts.requests.transaction import BATCH_MAX
from contracts.topology import partition_queue
from ingress.metrics import (
    ANNOUNCED,
    GROUP_SUBMISSIONS,
    LEFT_TO_RECONCILER,
    MARKED,
    SUBMISSIONS,
    UNANNOUNCED,
)
from ingress.submit.traces import NONE_TRACED, SubmissionTraces, Traced
from runtime.amqp.publisher import NotConfirmedError, Outgoing, Publisher
from runtime.postgres.pool import Connection, Lane, Pool
from runtime.postgres.queries import load_queries
from runtime.service.batcher import BatcherFullError, MicroBatcher
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.service.periodic import Backoff

WAITING_MAX: Final = 20_000
"""Submissions that wait for their insert; more are refused with 503 backlog_full."""

MARKS_MAX: Final = 1_000
"""Marks of one insert."""

ATOMIC_MAX: Final = 2
"""Atomic batches that are recorded at once: each holds a connection of its own for up to a thousand
rows, and single submissions need the others."""

CONFIRM_TIMEOUT_S: Final = 5.0
LINE_MAX: Final = 100_000
"""Ids that wait in memory while the broker is away; the reconciler finishes the others."""

# What one row may have wrong that no check foresaw; the group is then recorded one by one.
_ROW_FAULTS: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


log = structlog.get_logger()

Confirmed = asyncio.Future[bool]
"""True once the broker has the ids; False when the reconciler will finish them."""


class Standing(StrEnum):
    """How a request stands to its key."""

    NEW = "new"
    """The first under this key: it was recorded now."""
    REPLAY = "replay"
    """The same content again: the first transaction is the answer."""
    CONFLICT = "conflict"
    """Other content under a used key: refused, and nothing was recorded."""


def is_to_announce(row: RecordedRow) -> bool:
    """Whether the processor has to hear of it.

    A replay that is still PENDING may be the retry of a request whose ingress died before it
    announced: told again, it keeps its place before what the client sends next. Told twice, it is
    posted once.
    """
    return row.is_same and row.is_pending


def standing_of(row: RecordedRow) -> Standing:
    """Return how the request stands that got this row."""
    if not row.is_same:
        return Standing.CONFLICT
    return Standing.NEW if row.is_new else Standing.REPLAY


class Accepted(NamedTuple):
    """How a submission was recorded. NEW ones are durable, and announced as far as can be.

    `secured` is done when the broker has confirmed it, or it is marked as unannounced: waiting
    for it keeps a client's accepted order. It fails where neither can be had. None where there is
    nothing to wait for.
    """

    standing: Standing
    row: RecordedRow
    secured: asyncio.Future[None] | None = None


Outcome = Accepted | Exception
"""How a submission was recorded, or why it could not be."""


class _Mark(NamedTuple):
    """What posting has to know of a transaction that the broker has not confirmed."""

    partition: int
    submitter: str
    transaction_id: UUID


_COUNTERS: Final = {one: SUBMISSIONS.labels(one) for one in Standing}


def count_standing(standing: Standing) -> None:
    """Count a submission by how it stands to its key, as it is answered."""
    _COUNTERS[standing].inc()


class _Line:
    """The groups of one partition that wait, in accepted order."""

    def __init__(self, partition: int) -> None:
        self.queue = partition_queue(partition)
        self.groups: deque[tuple[Sequence[UUID], Confirmed]] = deque()
        self.length = 0
        self.arrived = asyncio.Event()

    def put(self, ids: Sequence[UUID]) -> Confirmed:
        confirmed: Confirmed = asyncio.get_running_loop().create_future()
        if self.length + len(ids) > LINE_MAX:
            LEFT_TO_RECONCILER.inc(len(ids))
            confirmed.set_result(False)
            return confirmed
        self.groups.append((ids, confirmed))
        self.length += len(ids)
        UNANNOUNCED.inc(len(ids))
        self.arrived.set()
        return confirmed

    def head(self) -> list[tuple[Sequence[UUID], Confirmed]]:
        """The groups that fit one message, at least one; they stay in the line."""
        taken: list[tuple[Sequence[UUID], Confirmed]] = []
        count = 0
        for group in self.groups:
            count += len(group[0])
            if taken and count > BATCH_MAX:
                break
            taken.append(group)
        return taken

    def remove(self, groups: Sequence[tuple[Sequence[UUID], Confirmed]]) -> None:
        for ids, confirmed in groups:
            self.groups.popleft()
            self.length -= len(ids)
            UNANNOUNCED.dec(len(ids))
            ANNOUNCED.inc(len(ids))
            if not confirmed.done():
                confirmed.set_result(True)


class Dispatcher:
    """Publishes `transaction.recorded` messages, one line for each partition."""

    def __init__(
        self, publisher: Publisher, *, partitions: int, fault_points: FaultPoints | None = None
    ) -> None:
        self._publisher = publisher
        self._fault_points = fault_points
        self._lines = [_Line(partition) for partition in range(partitions)]

    @property
    def is_up(self) -> bool:
        """Whether an announcement made now can be confirmed soon."""
        return self._publisher.is_up

    def dispatch(self, partition: int, ids: Sequence[UUID]) -> Confirmed:
        """Put ids (at most BATCH_MAX) at the end of the partition's line."""
        return self._lines[partition].put(ids)

    async def run(self) -> None:
        """Announce until cancelled."""
        async with asyncio.TaskGroup() as group:
            for line in self._lines:
                group.create_task(self._dispatch_line(line))

    async def drain(self) -> None:
        """Return when nothing waits; while the broker is away, at once."""
        while self._publisher.is_up:
            waiting = [confirmed for line in self._lines for _, confirmed in line.groups]
            if not waiting:
                return
            await asyncio.wait(waiting, timeout=CONFIRM_TIMEOUT_S)

    async def _dispatch_line(self, line: _Line) -> None:
        backoff: Backoff | None = None
        while True:
            groups = line.head()
            if not groups:
                line.arrived.clear()
                await line.arrived.wait()
                continue
            await self._publisher.wait_until_up()
            ids = [one for group_ids, _ in groups for one in group_ids]
            message = Outgoing(
                exchange="",
                routing_key=line.queue,
                body=encode_recorded(ids),
                type=RECORDED_TYPE,
            )
            try:
                await self._publisher.publish(message, timeout_s=CONFIRM_TIMEOUT_S)
            except NotConfirmedError as error:
                log.warning("announcement_not_confirmed", ids=len(ids), error=str(error))
                backoff = backoff or Backoff(first_s=0.05, most_s=2.0)
                await asyncio.sleep(backoff.next_delay_s())
                continue
            if self._fault_points is not None:
                await self._fault_points.reach(FaultPoint.INGRESS_ANNOUNCED)
            backoff = None
            line.remove(groups)


class Recorder:
    """Records submissions, then announces what is new; answers when both are done."""

    def __init__(
        self,
        *,
        pool: Pool,
        dispatcher: Dispatcher,
        partitions: int,
        group_size: int,
        flushers: int,
        confirm_timeout_s: float,
        fault_points: FaultPoints | None = None,
        traces: SubmissionTraces | None = None,
    ) -> None:
        """`confirm_timeout_s` bounds the wait for the broker; after it, a transaction is marked."""
        self._pool = pool
        self._lane = Lane(pool)
        self._dispatcher = dispatcher
        self._partitions = partitions
        self._confirm_timeout_s = confirm_timeout_s
        self._fault_points = fault_points
        self._traces = traces or SubmissionTraces()
        self._sql = load_queries("ingress")
        self._atomic_turns = asyncio.Semaphore(ATOMIC_MAX)
        self._batcher: MicroBatcher[Submission, Outcome] = MicroBatcher(
            self._accept_group, group_max=group_size, waiting_max=WAITING_MAX, workers=flushers
        )
        self._marker: MicroBatcher[_Mark, None] = MicroBatcher(
            self._write_marks, group_max=MARKS_MAX, waiting_max=WAITING_MAX, workers=1
        )

    async def run(self) -> None:
        """Accept until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._batcher.run())
            group.create_task(self._marker.run())

    async def accept(self, submissions: Sequence[Submission]) -> Sequence[Outcome]:
        """Return how each submission was recorded, in their order, once it is announced too.

        One that was recorded, and could be neither announced nor marked, has the error for its
        answer: its client sends it again. Raises BatcherFullError when too many wait; then
        nothing was recorded.
        """
        recording = self.record_soon(submissions)
        try:
            outcomes = await recording
        except Exception as error:  # noqa: BLE001  # each submission has it for its answer
            return [error for _ in submissions]
        waiting = {
            one.secured
            for one in outcomes
            if isinstance(one, Accepted) and one.secured is not None and not one.secured.done()
        }
        if waiting:
            await asyncio.wait(waiting)
        return [_in_the_end(one) for one in outcomes]

    def record_soon(self, submissions: Sequence[Submission]) -> "asyncio.Future[Sequence[Outcome]]":
        """Return what will hold how each submission was recorded, or what went wrong for all.

        Raises BatcherFullError when too many wait; then nothing was recorded.
        """
        return self._batcher.submit(submissions)

    async def _accept_group(self, group: list[Submission]) -> Sequence[Outcome]:
        """Record a group and put what is new in line; the next group need not wait for it."""
        began_ns = time.time_ns()
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.INGRESS_BEFORE_COMMIT)
        rows = await self._record(group)
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.INGRESS_COMMITTED)
        GROUP_SUBMISSIONS.observe(len(group))
        traced = self._traced(group, rows, began_ns)
        secured = self._announce(group, rows, traced)
        return [
            row
            if isinstance(row, Exception)
            else Accepted(standing_of(row), row, secured.get(row.id))
            for row in rows
        ]

    def _traced(
        self,
        group: Sequence[Submission],
        rows: Sequence[RecordedRow | Exception],
        began_ns: int,
    ) -> Traced:
        """Record the spans of an insert; while nothing is traced it costs a look."""
        if not self._traces.is_on:
            return NONE_TRACED
        return self._traces.recorded(group, rows, began_ns=began_ns)

    def _announce(
        self,
        group: Sequence[Submission],
        rows: Sequence[RecordedRow | Exception],
        traced: Traced,
    ) -> dict[UUID, asyncio.Future[None]]:
        """Put them in their partitions' lines, and return what to wait for with each of them."""
        # Each once, in order: a key that stands twice in a group has one row.
        by_partition: dict[int, dict[UUID, _Mark]] = defaultdict(dict)
        for submission, row in zip(group, rows, strict=True):
            if isinstance(row, RecordedRow) and is_to_announce(row):
                partition = self._partition(submission)
                by_partition[partition][row.id] = _Mark(partition, submission.submitter, row.id)
        secured: dict[UUID, asyncio.Future[None]] = {}
        for partition, marks in by_partition.items():
            confirmed = self._dispatch(partition, list(marks), traced)
            secured.update(dict.fromkeys(marks, self._secured(confirmed, marks.values())))
        return secured

    def _dispatch(self, partition: int, ids: list[UUID], traced: Traced) -> Confirmed:
        confirmed = self._dispatcher.dispatch(partition, ids)
        if traced:
            told = {one: traced[one] for one in ids if one in traced}
            self._traces.announcing(confirmed, partition, told)
        return confirmed

    def _secured(self, confirmed: Confirmed, marks: Collection[_Mark]) -> asyncio.Future[None]:
        """Done with the confirm or, where it does not come within the bound, with the marks."""
        loop = asyncio.get_running_loop()
        secured: asyncio.Future[None] = loop.create_future()
        secured.add_done_callback(_retrieve)
        # Done at once: the line is full, and nothing will confirm it.
        if confirmed.done() or not self._dispatcher.is_up:
            self._mark(marks, secured)
            return secured
        bound = loop.call_later(self._confirm_timeout_s, self._mark, marks, secured)

        def finish(_: Confirmed) -> None:
            bound.cancel()
            _finish(secured)

        confirmed.add_done_callback(finish)
        return secured

    def _mark(self, marks: Collection[_Mark], secured: asyncio.Future[None]) -> None:
        """Mark what is not confirmed; `secured` is done with that, or fails like it."""
        try:
            marked = self._marker.submit(tuple(marks))
        except BatcherFullError as error:
            secured.set_exception(error)
            return

        def finish(_: object) -> None:
            error = marked.exception()
            if error is None:
                _finish(secured)
            elif not secured.done():
                secured.set_exception(error)

        marked.add_done_callback(finish)

    async def _write_marks(self, marks: list[_Mark]) -> Sequence[None]:
        columns = [list(column) for column in zip(*marks, strict=True)]
        await self._pool.execute(self._sql["mark_unannounced"], *columns)
        MARKED.inc(len(marks))
        return [None] * len(marks)

    async def accept_atomic(self, submissions: Sequence[Submission]) -> Sequence[Accepted]:
        """Record the members of an atomic batch, all or none, announced in one message.

        Returns how each stands, when they are announced or marked: all are NEW, or all a REPLAY.
        Raises ContractError where a key stands for anything but this same batch.
        """
        began_ns = time.time_ns()
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.INGRESS_BEFORE_COMMIT)
        async with (
            self._atomic_turns,
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            rows = await self._insert(connection, submissions)
            if {standing_of(row) for row in rows} not in ({Standing.NEW}, {Standing.REPLAY}):
                raise _batch_conflict(submissions, rows)
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.INGRESS_COMMITTED)
        traced = self._traced(submissions, rows, began_ns)
        partition = self._partition(submissions[0])
        marks = {
            row.id: _Mark(partition, one.submitter, row.id)
            for one, row in zip(submissions, rows, strict=True)
            if is_to_announce(row)
        }
        if marks:
            confirmed = self._dispatch(partition, list(marks), traced)
            await self._secured(confirmed, marks.values())
        return [Accepted(standing_of(row), row) for row in rows]

    async def _record(self, group: Sequence[Submission]) -> list[RecordedRow | Exception]:
        try:
            async with self._lane.use() as connection:
                return list(await self._insert(connection, group))
        except _ROW_FAULTS as error:
            if len(group) == 1:
                return [error]
            middle = len(group) // 2
            return [*await self._record(group[:middle]), *await self._record(group[middle:])]

    async def _insert(
        self, database: "Pool | Connection", group: Sequence[Submission]
    ) -> list[RecordedRow]:
        arguments = recording_arguments(group)
        is_plain = not have_terms(group)
        rows: list[asyncpg.Record] = []
        if is_plain and len(group) == 1:
            alone = [value for [value] in arguments]
            rows = await database.fetch(self._sql["record_transaction"], *alone)
        if not rows:
            name = "record_transactions" if is_plain else "record_transactions_with_terms"
            rows = await database.fetch(self._sql[name], *arguments)
        return recorded_rows(rows, len(group))

    def _partition(self, submission: Submission) -> int:
        return partition_of(submission.command, count=self._partitions)


def _batch_conflict(
    submissions: Sequence[Submission], rows: Sequence[RecordedRow]
) -> ContractError:
    keys = [
        one.command.idempotency_key
        for one, row in zip(submissions, rows, strict=True)
        if standing_of(row) is not Standing.NEW
    ]
    return ContractError(
        ProblemCode.IDEMPOTENCY_KEY_REUSED,
        f"{len(keys)} keys stand for requests outside this atomic batch, such as '{keys[0]}'",
    )


def _in_the_end(outcome: Outcome) -> Outcome:
    """Return an outcome whose announcement was waited for, or what that came to."""
    if isinstance(outcome, Exception) or outcome.secured is None:
        return outcome
    error = outcome.secured.exception()
    return error if isinstance(error, Exception) else outcome


def _retrieve(secured: asyncio.Future[None]) -> None:
    """Look at an error that nobody may be waiting for: its client is gone, or has its answer."""
    if not secured.cancelled():
        secured.exception()


def _finish(waited: asyncio.Future[None]) -> None:
    if not waited.done():
        waited.set_result(None)
