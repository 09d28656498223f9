"""Gathering: what comes in one instant is worked on together, and answered each by itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from runtime.service.batcher import BatcherFullError, MicroBatcher


class Doubling:
    """Work that waits until it may, and doubles numbers; thirteen is too much for it."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_work = asyncio.Event()
        self.may_work.set()

    async def __call__(self, numbers: list[int]) -> Sequence[int]:
        self.groups.append(numbers)
        await self.may_work.wait()
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * number for number in numbers]


@asynccontextmanager
async def _gathering(
    work: Doubling, *, group_max: int = 3, waiting_max: int = 6
) -> AsyncIterator[MicroBatcher[int, int]]:
    gatherer = MicroBatcher(work, group_max=group_max, waiting_max=waiting_max, workers=1)
    running = asyncio.create_task(gatherer.run())
    try:
        yield gatherer
        gatherer.close()
        async with asyncio.timeout(5):
            await running
    finally:
        running.cancel()


async def test_each_submission_gets_the_results_of_its_own_items() -> None:
    work = Doubling()
    async with _gathering(work) as gatherer:
        futures = [gatherer.submit(numbers) for numbers in ([1], [2, 3], [], [4])]

        assert [await one for one in futures] == [[2], [4, 6], [], [8]]
    assert work.groups == [[1, 2, 3], [4]]


async def test_a_submission_is_never_torn_apart() -> None:
    work = Doubling()
    async with _gathering(work) as gatherer:
        futures = [gatherer.submit(numbers) for numbers in ([1, 2], [3, 4])]
        large = gatherer.submit([5, 6])

        assert [await one for one in (*futures, large)] == [[2, 4], [6, 8], [10, 12]]
    assert work.groups == [[1, 2], [3, 4], [5, 6]]


async def test_a_groups_failure_is_that_of_its_submissions_alone() -> None:
    work = Doubling()
    async with _gathering(work) as gatherer:
        failing = [gatherer.submit(numbers) for numbers in ([1, 2], [13])]
        fine = gatherer.submit([4])

        for one in failing:
            with pytest.raises(ValueError, match="thirteen"):
                await one
        assert await fine == [8]


async def test_more_than_may_wait_is_refused_whole() -> None:
    work = Doubling()
    work.may_work.clear()
    async with _gathering(work) as gatherer:
        accepted = gatherer.submit([1, 2, 3, 4])
        with pytest.raises(BatcherFullError):
            gatherer.submit([5, 6, 7])
        last = gatherer.submit([5, 6])
        work.may_work.set()

        assert (await accepted, await last) == ([2, 4, 6, 8], [10, 12])
        assert len(gatherer) == 0


async def test_what_waits_at_a_close_is_finished_and_nothing_more_is_taken() -> None:
    work = Doubling()
    async with _gathering(work) as gatherer:
        waiting = gatherer.submit([1])
        gatherer.close()
        with pytest.raises(BatcherFullError):
            gatherer.submit([2])

        assert await waiting == [2]


class _CancelledInside(Doubling):
    """Work in which a library cancels its own future, once."""

    async def __call__(self, numbers: list[int]) -> Sequence[int]:
        if not self.groups:
            self.groups.append(numbers)
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost
        return await super().__call__(numbers)


async def test_a_cancellation_from_the_inside_fails_its_group_and_not_its_worker() -> None:
    async with _gathering(_CancelledInside()) as gatherer:
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionResetError):
                await gatherer.submit([1])

            assert await gatherer.submit([2]) == [4]
