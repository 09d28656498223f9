"""Steps are repeated while they are allowed, and end when they are cancelled, whatever they say."""

import asyncio
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Counter

from processor.reconciler.repeating import repeat

BOUND_S = 5.0


@pytest.fixture
def registry() -> CollectorRegistry:
    """Metrics of this test's own."""
    return CollectorRegistry()


@pytest.fixture
def failures(registry: CollectorRegistry) -> Counter:
    """A counter among them."""
    return Counter("failures", "Failures", registry=registry)


async def test_a_cancellation_that_a_lost_connection_turned_into_an_error_still_ends_it(
    failures: Counter,
) -> None:
    """As the database's driver does when the connection goes in the same moment."""
    is_under_way = asyncio.Event()

    async def step() -> float:
        is_under_way.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise ConnectionResetError("the connection was lost")

    task = asyncio.ensure_future(
        repeat(step, name="step", is_allowed=lambda: True, failures=failures)
    )
    await is_under_way.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=BOUND_S)

    assert done == {task}
    assert task.cancelled()


async def test_a_step_that_is_not_allowed_is_not_made(failures: Counter) -> None:
    answers = iter([False, True])
    made = asyncio.Event()

    async def step() -> float:
        made.set()
        return 60.0

    task = asyncio.ensure_future(
        repeat(step, name="step", is_allowed=lambda: next(answers), failures=failures)
    )
    async with asyncio.timeout(BOUND_S):
        await made.wait()
    task.cancel()
    await asyncio.wait([task], timeout=BOUND_S)

    # Both answers are used up: the first kept the step from being made.
    assert list(answers) == []


async def test_a_passing_error_is_counted_and_the_step_made_again(
    failures: Counter, registry: CollectorRegistry
) -> None:
    attempts = 0
    made = asyncio.Event()

    async def step() -> float:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise TimeoutError
        made.set()
        return 60.0

    task = asyncio.ensure_future(
        repeat(step, name="step", is_allowed=lambda: True, failures=failures)
    )
    async with asyncio.timeout(BOUND_S):
        await made.wait()
    task.cancel()
    await asyncio.wait([task], timeout=BOUND_S)

    assert attempts == 2
    assert registry.get_sample_value("failures_total") == 1.0


async def test_any_other_error_ends_it(failures: Counter) -> None:
    async def step() -> float:
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        await repeat(step, name="step", is_allowed=lambda: True, failures=failures)
