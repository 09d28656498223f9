"""The dispatcher: recorded transactions go to the broker in accepted order, confirmed.

A partition's announcements go out one message after the other; while one is being confirmed, the
next one gathers. What the broker does not confirm stays at the head of the line, so that a wallet's
later debits never overtake it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from contracts.messages import RECORDED_TYPE, encode_recorded
from contracts.requests.transaction import BATCH_MAX
from contracts.topology import partition_queue
from ingress.metrics import ANNOUNCED, LEFT_TO_RECONCILER, UNANNOUNCED
from runtime.amqp.publisher import NotConfirmedError, Outgoing, Publisher
from runtime.service.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.service.periodic import Backoff

CONFIRM_TIMEOUT_S: Final = 5.0
LINE_MAX: Final = 100_000
"""Ids that wait in memory while the broker is away; the reconciler finishes the others."""

log = structlog.get_logger()

Confirmed = asyncio.Future[bool]
"""True once the broker has the ids; False when the reconciler will finish them."""


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
        self, publisher: Publisher, *, partitions: int, fault_points: FaultPoints = NO_FAULTS
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
            await self._fault_points.reach(FaultPoint.INGRESS_ANNOUNCED)
            backoff = None
            line.remove(groups)
