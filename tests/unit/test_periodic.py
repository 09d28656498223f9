"""Steps are repeated, and end when they are cancelled, whatever they say."""

import asyncio
from contextlib import suppress

import pytest

from reconciler.schedule import DOUBTED_S, while_leading
from runtime.resilience.error_classification import is_transient
from runtime.service.periodic import Backoff, Step, one_of, repeat

BOUND_S = 5.0


def _repeating(step: Step, failures: list[Exception]) -> "asyncio.Future[None]":
    return asyncio.ensure_future(
        repeat(
            step,
            every_s=60.0,
            is_passing=is_transient,
            failed=failures.append,
            backoff=Backoff(first_s=0.01, most_s=0.01),
        )
    )


async def test_a_cancellation_that_a_lost_connection_turned_into_an_error_still_ends_it() -> None:
    """As the database's driver does when the connection goes in the same moment."""
    is_under_way = asyncio.Event()

    async def step() -> float:
        is_under_way.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise ConnectionResetError("the connection was lost")

    task = _repeating(step, [])
    await is_under_way.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=BOUND_S)

    assert done == {task}
    assert task.cancelled()


async def test_a_step_is_not_made_while_another_may_lead() -> None:
    answers = iter([False, True])
    made: list[float] = []

    async def step() -> float:
        made.append(60.0)
        return 60.0

    led = while_leading(step, is_leader=lambda: next(answers))

    assert await led() == DOUBTED_S
    assert made == []
    assert await led() == 60.0
    assert made == [60.0]


async def test_a_passing_error_is_told_and_the_step_made_again() -> None:
    attempts = 0
    made = asyncio.Event()
    failures: list[Exception] = []

    async def step() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise TimeoutError
        made.set()

    task = _repeating(step, failures)
    async with asyncio.timeout(BOUND_S):
        await made.wait()
    task.cancel()
    await asyncio.wait([task], timeout=BOUND_S)

    assert attempts == 2
    assert [type(failure) for failure in failures] == [TimeoutError]


async def test_a_step_that_has_more_to_do_rests_no_longer_than_it_says() -> None:
    made = 0
    is_enough = asyncio.Event()

    async def step() -> float | None:
        nonlocal made
        made += 1
        if made < 3:
            return 0
        is_enough.set()
        return None

    task = _repeating(step, [])
    async with asyncio.timeout(BOUND_S):
        await is_enough.wait()
    task.cancel()
    await asyncio.wait([task], timeout=BOUND_S)

    assert made == 3


async def test_any_other_error_ends_it() -> None:
    async def step() -> float:
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        await repeat(step, every_s=0, is_passing=one_of(OSError), failed=lambda _: None)
