"""Natural batching: while one group is at work the next one gathers; no timer.

Idle, an item goes at once and alone. Under load, groups grow by themselves, up to a bound.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class GatheringFullError(Exception):
    """As many items wait as may wait; try again later."""


class Gatherer(Generic[Item, Result]):
    """Turns single items into groups; each item gets its own result or the group's exception."""

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        group_max: int,
        waiting_max: int,
        workers: int,
    ) -> None:
        """`work` returns a result for each item, in their order; `workers` groups run at once.

        A group has at most `group_max` items, unless a single submission has more.
        """
        self._work = work
        self._group_max = group_max
        self._waiting_max = waiting_max
        self._workers = workers
        self._waiting: deque[list[tuple[Item, asyncio.Future[Result]]]] = deque()
        self._length = 0
        self._arrived = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        """How many items wait for a group."""
        return self._length

    def submit(self, items: Sequence[Item]) -> list["asyncio.Future[Result]"]:
        """Queue items in their order; raises GatheringFullError, then none of them is queued.

        What is submitted together stays together: two groups at work may end in any order.
        """
        if self._closing or self._length + len(items) > self._waiting_max:
            raise GatheringFullError
        if not items:
            return []
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._waiting.append(list(zip(items, futures, strict=True)))
        self._length += len(items)
        self._arrived.set()
        return futures

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
            await self._finish(self._next_group())

    def _next_group(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        """Take whole submissions as long as they fit, at least one."""
        group = list(self._waiting.popleft())
        while self._waiting and len(group) + len(self._waiting[0]) <= self._group_max:
            group.extend(self._waiting.popleft())
        self._length -= len(group)
        return group

    async def _finish(self, group: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._work([item for item, _ in group])
        except Exception as error:  # noqa: BLE001  # handed to those who wait for it
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
