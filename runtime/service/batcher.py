"""Natural batching: while one group is at work the next one gathers; no timer.

Idle, an item goes at once and alone. Under load, groups grow by themselves, up to a bound.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatcherFullError(Exception):
    """As many items wait as may wait; try again later."""


class MicroBatcher(Generic[Item, Result]):
    """Turns submissions into groups; each gets its own items' results or the group's exception."""

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        group_max: int,
        waiting_max: int,
        workers: int,
        patience_s: float | None = None,
    ) -> None:
        """`work` returns a result for each item, in their order; `workers` groups run at once.

        A group has at most `group_max` items, unless a single submission has more. What has waited
        for a group for `patience_s` gets a TimeoutError instead; None: it waits for its turn.
        """
        self._work = work
        self._group_max = group_max
        self._waiting_max = waiting_max
        self._workers = workers
        self._patience_s = patience_s
        # Items, what will hold their results, and when they were submitted.
        self._waiting: deque[tuple[Sequence[Item], asyncio.Future[Sequence[Result]], float]]
        self._waiting = deque()
        self._length = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """How many items wait for a group."""
        return self._length

    def submit(self, items: Sequence[Item]) -> "asyncio.Future[Sequence[Result]]":
        """Queue items in their order; raises BatcherFullError, then none of them is queued.

        What is submitted together stays together: two groups at work may end in any order.
        """
        if self._closing or self._length + len(items) > self._waiting_max:
            raise BatcherFullError
        if not items:
            return self.answered([])
        future = self._new_future()
        self._waiting.append((items, future, time.monotonic()))
        self._length += len(items)
        self._arrived.set()
        return future

    def answered(self, results: Sequence[Result]) -> "asyncio.Future[Sequence[Result]]":
        """Return what `submit` would for items whose results are known already."""
        future = self._new_future()
        future.set_result(results)
        return future

    def _new_future(self) -> "asyncio.Future[Sequence[Result]]":
        # To ask for the running loop is a system call, and this is asked for each request.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        return loop.create_future()

    async def run(self) -> None:
        """Work until cancelled or closed; what waits at a close is finished first."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work_on())

    def close(self) -> None:
        """Take nothing more; `run` returns when all that waits is done."""
        self._closing = True
        self._arrived.set()

    async def _work_on(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if self._patience_s is not None:
                self._give_up(time.monotonic() - self._patience_s)
            if self._waiting:
                await self._finish(self._next_group())

    def _give_up(self, late_at: float) -> None:
        """Fail what was submitted before this moment and still waits."""
        while self._waiting and self._waiting[0][2] <= late_at:
            items, future, _ = self._waiting.popleft()
            self._length -= len(items)
            _fail([(items, future)], TimeoutError("its turn did not come in time"))

    def _next_group(self) -> list[tuple[Sequence[Item], "asyncio.Future[Sequence[Result]]"]]:
        """Take whole submissions as long as they fit, at least one."""
        group = [self._waiting.popleft()[:2]]
        length = len(group[0][0])
        while self._waiting and length + len(self._waiting[0][0]) <= self._group_max:
            group.append(self._waiting.popleft()[:2])
            length += len(group[-1][0])
        self._length -= length
        return group

    async def _finish(
        self, group: list[tuple[Sequence[Item], "asyncio.Future[Sequence[Result]]"]]
    ) -> None:
        try:
            results = await self._work([item for items, _ in group for item in items])
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            # A library cancelled its own future: let through, that would end this worker without a
            # word, and the group would wait for ever. Nobody knows how far the work came.
            _fail(group, ConnectionResetError("the work was cancelled from the inside"))
            return
        except Exception as error:  # noqa: BLE001  # handed to those who wait for it
            _fail(group, error)
            return
        start = 0
        for items, future in group:
            end = start + len(items)
            if not future.done():
                future.set_result(results[start:end])
            start = end


def _fail(
    group: Sequence[tuple[Sequence[Item], "asyncio.Future[Sequence[Result]]"]], error: Exception
) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
